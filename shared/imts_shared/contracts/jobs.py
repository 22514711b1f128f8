"""Jobs as the world sees them: kinds, states, reasons, events and the job itself."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from imts_shared.contracts.base import Answer
from imts_shared.contracts.envelope import JobRequest
from imts_shared.contracts.training import TrainingRequest


class JobKind(StrEnum):
    training = "training"
    analysis = "analysis"
    evaluation = "evaluation"
    export = "export"


class JobState(StrEnum):
    queued = "queued"
    dispatched = "dispatched"
    running = "running"
    stopping = "stopping"
    paused = "paused"
    succeeded = "succeeded"
    failed = "failed"
    stopped = "stopped"


FINAL_STATES = frozenset({JobState.succeeded, JobState.failed, JobState.stopped})


class Reason(StrEnum):
    """Why an attempt or a job ended (or is about to)."""

    user_stopped = "user_stopped"
    user_paused = "user_paused"
    bad_config = "bad_config"
    bad_data = "bad_data"
    out_of_memory = "out_of_memory"
    out_of_disk = "out_of_disk"
    engine_error = "engine_error"
    engine_killed = "engine_killed"
    worker_lost = "worker_lost"
    worker_shutdown = "worker_shutdown"
    undelivered = "undelivered"
    diverged = "diverged"
    timeout = "timeout"
    superseded = "superseded"


class EventType(StrEnum):
    state = "state"
    progress = "progress"
    metric = "metric"
    log = "log"
    checkpoint = "checkpoint"
    artifact = "artifact"
    message = "message"


class AnalysisRequest(JobRequest):
    """Profile a data set: rows, format, lengths, exact duplicates."""

    dataset: str = Field(min_length=1, max_length=200, description="A data set's id or name.")


class EvaluationRequest(JobRequest):
    """Judge a model on a data set."""

    model_name: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    dataset: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="A data set's id or name."
    )


ExportQuantization = Literal[
    "f32", "bf16", "f16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k"
]


class ExportRequest(JobRequest):
    """Turn a model into another form: an adapter merged into its base, or a GGUF file for llama.cpp."""

    model_name: Annotated[str, StringConstraints(min_length=1, max_length=500)] = Field(
        description="A registered model, builtin:..., a path under an allowed root or a hub id."
    )
    format: Literal["merged", "gguf"] = Field("merged", description="merged: whole, as safetensors.")
    quantization: ExportQuantization | None = Field(None, description="gguf: of the weights; by default q8_0.")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="merged: of the weights; by default as in the base."
    )
    max_shard_gb: float = Field(5.0, ge=0.01, le=1000, description="merged: the largest file of weights.")
    output_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")] | None = Field(
        None, description="The name under which the model is registered."
    )
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=4000)] = Field(
        "What is the capital of France? Answer in one sentence.",
        description="What the exported model answers to prove that it works.",
    )
    answer_tokens: int = Field(16, ge=1, le=256, description="How far it answers at most.")

    @field_validator("quantization", mode="before")
    @classmethod
    def either_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def fields_of_the_format(self) -> Self:
        if self.format == "merged" and self.quantization is not None:
            raise ValueError("quantization goes with format gguf")
        if self.format == "gguf" and "dtype" in self.model_fields_set and self.dtype != "auto":
            raise ValueError("dtype goes with format merged; gguf takes quantization")
        return self


REQUESTS: dict[JobKind, type[JobRequest]] = {
    JobKind.training: TrainingRequest,
    JobKind.analysis: AnalysisRequest,
    JobKind.evaluation: EvaluationRequest,
    JobKind.export: ExportRequest,
}


class Progress(Answer):
    percent: float | None = None
    step: int | None = None
    total_steps: int | None = None
    eta_seconds: float | None = None


class JobError(Answer):
    code: str
    message: str
    hint: str | None = None


class WaitingFor(Answer):
    """Why a queued job does not run yet."""

    code: Literal["no_worker", "busy", "quota", "backoff", "turn"]
    message: str


class Job(Answer):
    id: str
    kind: JobKind
    name: str | None = None
    project: str
    state: JobState
    reason: Reason | None = None
    attempt: int = Field(description="The number of the newest attempt; it fences every write.")
    tries: int = Field(description="Attempts that count against maxAttempts.")
    max_attempts: int
    priority: int
    labels: dict[str, str]
    queue_position: int | None = None
    expected_start_at: datetime | None = None
    waiting_for: WaitingFor | None = None
    progress: Progress
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    spec: dict[str, Any]
    result: dict[str, Any] | None = None
    error: JobError | None = None
    worker_id: str | None = None
    timeout_seconds: int | None = None
    clone_of: str | None = None
    events_pruned_at: datetime | None = Field(
        None, description="When this job's progress and metric events were pruned by the retention rules."
    )


class JobPage(Answer):
    items: list[Job]
    next_cursor: str | None = None


class JobEvent(Answer):
    seq: int
    type: EventType
    at: datetime
    data: dict[str, Any]


class JobEventPage(Answer):
    items: list[JobEvent]
    next_cursor: str | None = None


class LogLine(Answer):
    line: int
    at: datetime
    stream: Literal["stdout", "stderr", "log"] = "log"
    text: str


class LogPage(Answer):
    items: list[LogLine]
    next_cursor: str | None = None


class MetricPoint(Answer):
    step: int
    at: datetime
    values: dict[str, float | None]


class MetricSeries(Answer):
    """Points by step; `of` is how many there are before thinning to what was asked for."""

    points: list[MetricPoint]
    of: int
    names: list[str]
