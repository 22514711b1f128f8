"""What a worker and the control plane say to each other under /internal. An attempt's token authorises it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from imts_shared.contracts.base import Answer, Request
from imts_shared.contracts.inputs import DatasetInput, Device
from imts_shared.contracts.jobs import EventType, JobKind, Reason
from imts_shared.contracts.models import ModelInput

__all__ = [
    "LARGEST",
    "Checkpoint",
    "ClaimAnswer",
    "ClaimRequest",
    "DatasetInput",
    "Device",
    "Outcome",
    "ReportAnswer",
    "ReportRequest",
    "ReportedEvent",
    "ReportedLine",
    "RunMessage",
    "WorkerBeat",
]

LARGEST = 2**31 - 1


class RunMessage(Request):
    """The Celery message: a doorbell, never the truth."""

    job_id: str
    attempt: int
    token: str


class Checkpoint(Answer):
    attempt: int
    step: int
    prefix: str = Field(description="Where its files lie in storage.")
    bytes: int = 0


class ClaimRequest(Request):
    attempt: int = Field(ge=0, le=LARGEST)
    worker_id: str
    claim_id: str = Field(description="Random per delivery: a repeated request of the same delivery is answered again.")


class ClaimAnswer(Answer):
    model_config = ConfigDict(hide_input_in_errors=True)

    job_id: str
    kind: JobKind
    project: str
    attempt: int
    spec: dict[str, Any]
    inputs: list[DatasetInput] = Field(default_factory=list)
    models: list[ModelInput] = Field(default_factory=list)
    secrets: dict[str, str] = Field(
        default_factory=dict, repr=False, description="The project's tokens by name, a reward's by the reward's name."
    )
    prefix: str = Field(description="The only place in storage where this attempt may write.")
    resume_from: Checkpoint | None = None
    lease_seconds: float
    beat_seconds: float
    stop_grace_seconds: float
    timeout_seconds: int | None = None


class ReportedEvent(Request):
    """`state` events are the control plane's own; `log` events come of `logs`."""

    type: Literal[EventType.progress, EventType.metric, EventType.checkpoint, EventType.artifact, EventType.message]
    at: datetime
    data: dict[str, Any]


class ReportedLine(Request):
    at: datetime
    stream: Literal["stdout", "stderr", "log"] = "log"
    text: str = Field(max_length=20_000)


class Outcome(Request):
    """How the attempt ended. `released`: the worker shuts down and gives the job back."""

    status: Literal["succeeded", "failed", "stopped", "released"]
    reason: Reason | None = None
    message: str | None = Field(None, max_length=20_000)
    hint: str | None = Field(None, max_length=2_000)
    result: dict[str, Any] | None = None


class ReportRequest(Request):
    """Batches are numbered from 1 within an attempt and applied once each; a bare beat has no number."""

    attempt: int = Field(ge=0, le=LARGEST)
    batch: Annotated[int, Field(ge=1, le=LARGEST)] | None = None
    events: list[ReportedEvent] = Field(default_factory=list, max_length=2_000)
    logs: list[ReportedLine] = Field(default_factory=list, max_length=5_000)
    outcome: Outcome | None = None


class ReportAnswer(Answer):
    order: Literal["continue", "stop", "pause"]
    lease_seconds: float


class WorkerBeat(Request):
    """A worker says that it is there. Sent every few seconds with the services' own key."""

    worker_id: str = Field(min_length=1, max_length=200)
    name: str = Field(max_length=200)
    service: str = Field(max_length=100)
    kinds: list[JobKind] = Field(min_length=1)
    slots: int = Field(ge=1, le=1024)
    queue: str = Field(max_length=200)
    host: str = Field(max_length=255)
    pid: int = Field(ge=0, le=LARGEST)
    version: str = Field(max_length=50)
    devices: list[Device] = Field(default_factory=list)
    draining: bool = False
