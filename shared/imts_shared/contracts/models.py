"""Models in the registry, what a job produced, and what an attempt may read."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StrictBool, StringConstraints, field_validator

from imts_shared.contracts.base import Answer, Request


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


_HUB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_SOURCE = rf"^({'|'.join(BUILTIN_MODELS)}|{_HUB_ID}|/[^\x00]{{1,999}})$"

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Template = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class ModelRequest(Request):
    """A base model to be known by name. Nothing is fetched before a job reads it."""

    name: ModelName
    source: str = Field(
        description="A built-in model (builtin:...), a hub id (org/name) or an absolute path.",
        json_schema_extra={"pattern": _SOURCE},
    )
    template: Template | None = Field(None, description="The chat template that its jobs use unless they say.")
    trust_remote_code: StrictBool = Field(False, description="Run code that comes with the model. Needs an admin key.")
    project: str | None = Field(None, max_length=64, description="Only an admin key may name another project.")

    @field_validator("source")
    @classmethod
    def source_is_one(cls, value: str) -> str:
        if not re.fullmatch(_SOURCE.strip("^$"), value):
            known = ", ".join(BUILTIN_MODELS)
            raise ValueError(f"must be one of {known}, a hub id such as org/name, or an absolute path")
        return value


class ModelChange(Request):
    """What may change about a model; what is left out stays."""

    template: Template | None = None
    trust_remote_code: StrictBool | None = Field(None, description="Needs an admin key.")


class PromoteRequest(Request):
    name: ModelName | None = Field(
        None, description="Default: the job's outputName, its name, or one made of its base."
    )


class ModelFile(Answer):
    path: str
    bytes: int
    sha256: str


class ModelFiles(Answer):
    items: list[ModelFile]
