"""Deployments: models that engines serve, as people ask for them and see them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from imts_shared.contracts.base import Answer, Request

ServedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""What callers of the gateway give as `model`; deployments and adapters of a project share one set of names."""
ModelReference = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Labels = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=63)],
        Annotated[str, StringConstraints(max_length=255)],
    ],
    Field(max_length=32),
]


class Engine(StrEnum):
    vllm = "vllm"
    llamacpp = "llamacpp"


class DeploymentState(StrEnum):
    """Of a deployment, and of each of its replicas. `degraded`: some of what is wanted answers, not all of it."""

    pending = "pending"
    starting = "starting"
    ready = "ready"
    degraded = "degraded"
    failed = "failed"
    stopped = "stopped"


class DeploymentReason(StrEnum):
    """Why it is not ready. The user's mistakes end it, the rest is tried again."""

    no_worker = "no_worker"
    no_room = "no_room"
    bad_arguments = "bad_arguments"
    bad_model = "bad_model"
    bad_adapter = "bad_adapter"
    engine_missing = "engine_missing"
    port_taken = "port_taken"
    out_of_memory = "out_of_memory"
    start_timeout = "start_timeout"
    crash_loop = "crash_loop"
    unhealthy = "unhealthy"
    engine_error = "engine_error"
    user_stopped = "user_stopped"
    idle = "idle"


USERS_MISTAKES = frozenset(
    {
        DeploymentReason.bad_arguments,
        DeploymentReason.bad_model,
        DeploymentReason.bad_adapter,
        DeploymentReason.engine_missing,
        DeploymentReason.port_taken,
    }
)
"""Trying again changes nothing."""


class Phase(StrEnum):
    """What a replica that starts is busy with."""

    installing = "installing engine"
    fetching = "fetching model"
    launching = "launching engine"
    loading = "loading weights"
    warming = "warming up"


_OPTIONS = {"propertyNames": {"pattern": r"^(--)?[A-Za-z][A-Za-z0-9_.-]{0,99}$"}}


class AdapterRequest(Request):
    model: ModelReference = Field(description="A registered adapter of the deployment's base.")
    name: ServedName | None = Field(None, description="Default: the adapter's own name.")


class DeploymentRequest(Request):
    model: ModelReference = Field(
        description="A registered model, builtin:..., a path or a hub id. An adapter is served by its base's engine:"
        " by a running one of this project, else by a new one."
    )
    name: ServedName | None = Field(None, description="Default: the model's name.")
    project: str | None = Field(None, max_length=64, description="Only an admin key may name another project.")
    replicas: int = Field(1, ge=0, le=64)
    engine: Engine | None = Field(None, description="Default: llamacpp for GGUF, else vllm.")
    engine_args: dict[str, Any] = Field(
        default_factory=dict,
        max_length=200,
        description="The engine's own options, such as max_model_len: 4096.",
        json_schema_extra=_OPTIONS,  # type: ignore[arg-type]
    )
    adapters: Annotated[list[ServedName | AdapterRequest], Field(max_length=64)] = Field(default_factory=list)
    gpu: Annotated[int, Field(ge=0, le=64)] | None = Field(
        None, description="GPUs of each replica; by default one where the worker has any. 0: the CPU."
    )
    port: Annotated[int, Field(ge=1024, le=65_535)] | None = Field(
        None, description="Of the first replica, the next ones count on; by default any free one."
    )
    launcher: Literal["process", "kubernetes"] | None = Field(None, description="Default: the worker's own.")
    start_timeout_seconds: int = Field(600, ge=5, le=86_400, description="Until it must be ready, loading included.")
    idle_seconds: Annotated[int, Field(ge=5, le=2_592_000)] | None = Field(
        None, description="Without a request for so long it is put to sleep; the next one wakes it."
    )
    drain_seconds: int = Field(300, ge=0, le=86_400, description="What running requests of a leaving replica get.")
    labels: Labels = Field(default_factory=dict)

    @field_validator("engine_args")
    @classmethod
    def options_by_name(cls, value: dict[str, Any]) -> dict[str, Any]:
        """`--max-model-len`, `max-model-len` and `max_model_len` are one option."""
        return {name.removeprefix("--").replace("-", "_"): option for name, option in value.items()}


class DeploymentChange(Request):
    """What is left out stays. A new model, engineArgs, gpu or port starts a new version beside the old one."""

    model: ModelReference | None = None
    engine_args: Annotated[dict[str, Any], Field(max_length=200, json_schema_extra=_OPTIONS)] | None = None
    gpu: Annotated[int, Field(ge=0, le=64)] | None = None
    port: Annotated[int, Field(ge=1024, le=65_535)] | None = None
    replicas: Annotated[int, Field(ge=0, le=64)] | None = None
    adapters: Annotated[list[ServedName | AdapterRequest], Field(max_length=64)] | None = None
    start_timeout_seconds: Annotated[int, Field(ge=5, le=86_400)] | None = None
    idle_seconds: Annotated[int, Field(ge=5, le=2_592_000)] | None = None
    drain_seconds: Annotated[int, Field(ge=0, le=86_400)] | None = None
    labels: Labels | None = None

    @field_validator("engine_args")
    @classmethod
    def options_by_name(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if value is None else DeploymentRequest.options_by_name(value)


class ScaleRequest(Request):
    replicas: int = Field(ge=0, le=64)


class Progress(Answer):
    phase: Phase
    percent: float | None = None
    message: str | None = None


class DeployedAdapter(Answer):
    name: str
    model: str
    model_id: str | None = None
    state: Literal["pending", "loaded", "failed"] = "pending"
    message: str | None = None
    seconds: float | None = Field(None, description="What its loading into the running engine took.")


class Replica(Answer):
    revision: int
    number: int
    state: DeploymentState
    reason: DeploymentReason | None = None
    message: str | None = None
    progress: Progress | None = None
    url: str | None = Field(None, description="Where its engine answers, without keys: inside the platform only.")
    restarts: int = 0
    gpus: list[str] = Field(default_factory=list)
    memory_bytes: int | None = None
    started_at: datetime | None = None
    ready_at: datetime | None = None


class DeploymentError(Answer):
    code: str
    message: str
    hint: str | None = None


class Deployment(Answer):
    id: str
    name: str
    project: str
    model: str
    model_id: str | None = None
    engine: Engine
    engine_args: dict[str, Any]
    adapters: list[DeployedAdapter]
    replicas: int = Field(description="Wanted.")
    ready_replicas: int = 0
    gpu: int | None = None
    port: int | None = None
    launcher: str | None = None
    start_timeout_seconds: int
    idle_seconds: int | None = None
    drain_seconds: int
    labels: dict[str, str] = Field(default_factory=dict)
    state: DeploymentState
    reason: DeploymentReason | None = None
    message: str | None = None
    error: DeploymentError | None = None
    progress: Progress | None = None
    revision: int = Field(description="The newest version that was asked for.")
    serving_revision: int | None = Field(None, description="The version that takes traffic.")
    restarts: int = 0
    instances: list[Replica] = Field(default_factory=list)
    worker_id: str | None = None
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None = None


class DeploymentPage(Answer):
    items: list[Deployment]
    next_cursor: str | None = None


class DeploymentEvent(Answer):
    seq: int
    type: Literal["state", "progress", "adapter", "message"]
    at: datetime
    data: dict[str, Any]


class DeploymentEvents(Answer):
    items: list[DeploymentEvent]
    next_cursor: str | None = None


class DeploymentLine(Answer):
    seq: int
    at: datetime
    revision: int
    replica: int
    text: str


class DeploymentLines(Answer):
    items: list[DeploymentLine]
    next_cursor: str | None = None


class ReplicaMetrics(Answer):
    revision: int
    number: int
    at: datetime | None = None
    values: dict[str, float] = Field(default_factory=dict)


class DeploymentMetrics(Answer):
    """What the engines count, newest known: running, waiting, cacheUse, requests, promptTokens, ..."""

    replicas: list[ReplicaMetrics]


class ModelStatus(Answer):
    """Whether a model is served, and by which deployment."""

    model: str
    model_id: str | None = None
    loaded: bool = Field(description="Requests for it are answered now.")
    state: DeploymentState | None = Field(None, description="Of its deployment, or of it as an adapter.")
    message: str | None = None
    name: str | None = Field(None, description="What callers of the gateway give as `model`.")
    deployment: Deployment | None = None
