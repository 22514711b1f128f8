"""Models in the registry, what a job produced, and what an attempt may read."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from imts_shared.contracts.base import Answer


class ModelKind(StrEnum):
    """`merged` is a whole model that training is part of, whether a merged adapter or fine-tuned in full."""

    base = "base"
    adapter = "adapter"
    merged = "merged"
    gguf = "gguf"


BUILTIN_MODELS = ("builtin:smollm2-135m", "builtin:tiny-qwen3")


class ProducedModel(Answer):
    """A model as the engine reports it in its result's `models`, and the control plane registers it.

    The files under `prefix` are listed with their hashes in its manifest.json, as a checkpoint's are.
    """

    kind: ModelKind
    name: str | None = Field(None, description="Default: the job's outputName, its name, or one made of its base.")
    prefix: str
    bytes: int
    files: int
    sha256: str = Field(description="Of the manifest.")
    base_model: str = Field(description="What it was made from, as it was named to the job.")
    template: str | None = None
    details: dict[str, Any] = Field(default_factory=dict, description="Architecture, parameters, quantization, ...")
    metrics: dict[str, float | None] = Field(default_factory=dict)
    card: str = Field("", max_length=65_536, description="Markdown.")


class ModelInput(Answer):
    """A registered model that an attempt may read; `base` is the one that an adapter stands on."""

    named: str = Field(description="As the job names it.")
    id: str
    name: str
    version: int
    kind: ModelKind
    prefix: str | None = Field(None, description="Where its files lie in storage; none for a base model.")
    source: str | None = Field(None, description="Where a base model comes from: builtin:, a path or a hub id.")
    sha256: str | None = None
    template: str | None = None
    trust_remote_code: bool = False
    base: "ModelInput | None" = None
    base_name: str | None = Field(None, description="The base as it was named, when the registry does not hold it.")


class Model(Answer):
    """A registered model; a version counts within its name and project."""

    id: str
    name: str
    version: int
    project: str
    kind: ModelKind
    base_model: str | None = None
    base_model_id: str | None = None
    source: str | None = None
    template: str | None = None
    job_id: str | None = None
    checkpoint_step: int | None = Field(None, description="The step of the checkpoint that it was promoted from.")
    bytes: int = 0
    files: int = 0
    sha256: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, float | None] = Field(default_factory=dict)
    trust_remote_code: bool = False
    created_at: datetime


class ModelPage(Answer):
    items: list[Model]
    next_cursor: str | None = None


class LineageDataset(Answer):
    id: str | None = None
    name: str
    version: int | None = None
    sha256: str | None = None
    rows: int | None = None


class LineageJob(Answer):
    id: str
    kind: str
    name: str | None = None
    state: str
    created_at: datetime
    ended_at: datetime | None = None
    configuration: dict[str, Any]


class Lineage(Answer):
    """Everything that a model came from, and what was made from it."""

    model: Model
    job: LineageJob | None = None
    datasets: list[LineageDataset] = Field(default_factory=list)
    base_model: str | None = None
    ancestors: list[Model] = Field(default_factory=list, description="Nearest first, down to the base.")
    descendants: list[Model] = Field(default_factory=list)


class Verification(Answer):
    """What comparing every stored file with the manifest showed."""

    ok: bool
    files: int
    bytes: int
    problems: list[str] = Field(default_factory=list)


class StoredCheckpoint(Answer):
    """A checkpoint of a job; `model_id` names the model that it was promoted to and that keeps it from being freed."""

    step: int
    attempt: int
    prefix: str
    bytes: int
    files: int
    created_at: datetime
    newest: bool = False
    model_id: str | None = None


class CheckpointList(Answer):
    items: list[StoredCheckpoint]
