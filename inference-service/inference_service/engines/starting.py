"""What it takes to start an engine, whichever it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Model:
    """Files on this machine: a folder for vLLM, a GGUF file for llama.cpp."""

    path: Path
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Place:
    """Where a replica runs."""

    name: str
    port: int
    folder: Path
    gpus: list[str] = field(default_factory=list)
    host: str = "127.0.0.1"
    cache_gb: int = 1
    cores: int = 1
    alone: bool = True
    """No other engine computes on this machine's CPU."""


@dataclass(frozen=True)
class Start:
    command: list[str]
    environment: Mapping[str, str]
    """What the engine is told; a child of the worker has `clean_environment` besides."""
