"""What an engine's own lines say about how far its start has come."""

import re

from imts_shared.contracts.deployments import Phase, Progress

_PERCENT = re.compile(r"(\d{1,3})%")
SHARDS = ("checkpoint shards", "Loading pt checkpoint")
STEPS = (
    ("Starting to load model", Phase.loading, "loading weights"),
    ("Loading weights took", Phase.loading, "weights are loaded"),
    ("Model loading took", Phase.loading, "weights are loaded"),
    ("Graph capturing finished", Phase.loading, "graphs are captured"),
    ("Initializing a V1 LLM engine", Phase.launching, "the engine's own process is up"),
    ("Using max model len", Phase.launching, "the model's configuration is read"),
    ("Application startup complete", Phase.warming, "the engine's server is up"),
    ("llama_model_loader", Phase.loading, "loading weights"),
    ("load_model: loading model", Phase.loading, "loading weights"),
    ("server is listening", Phase.warming, "the engine's server is up"),
)


def told(line: str) -> Progress | None:
    """None for a line that says nothing about it."""
    if any(mark in line for mark in SHARDS):
        percent = _PERCENT.search(line)
        return Progress(phase=Phase.loading, percent=float(percent[1]) if percent else None, message="loading weights")
    for mark, phase, message in STEPS:
        if mark in line:
            return Progress(phase=phase, message=message)
    return None
