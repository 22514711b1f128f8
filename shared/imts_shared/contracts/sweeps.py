"""Training sweeps: many training jobs that differ in a few fields, ranked by one metric."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from imts_shared.contracts.base import Answer, Request
from imts_shared.contracts.envelope import Labels
from imts_shared.contracts.jobs import JobError
from imts_shared.contracts.training import TrainingRequest

MOST_TRIALS = 500

Number = Annotated[int, Field(ge=-(10**15), le=10**15)] | Annotated[float, Field(ge=-1e15, le=1e15)]
Method = Literal["grid", "random", "asha"]
Goal = Literal["minimize", "maximize"]


class SweepState(StrEnum):
    running = "running"
    stopping = "stopping"
    stopped = "stopped"
    succeeded = "succeeded"
    failed = "failed"


ENDED_SWEEPS = frozenset({SweepState.stopped, SweepState.succeeded, SweepState.failed})


class SweepParameter(Request):
    """Either `values`, or a range from `min` to `max` with both ends in it."""

    values: Annotated[list[Any], Field(min_length=1, max_length=MOST_TRIALS)] | None = None
    min: Number | None = None
    max: Number | None = None
    log: bool = Field(False, description="Small values are drawn as often as large ones.")
    step: Number | None = Field(None, description="Only every so much from `min` on.")
    integer: bool | None = Field(None, description="Whole numbers; by default as the field takes them.")


class AshaRequest(Request):
    """When trials are compared and which go on."""

    min_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        None, description="The first comparison; by default so that two more fit into maxSteps, else 10."
    )
    reduction_factor: int = Field(3, ge=2, le=10, description="One in so many goes on, to so many times the steps.")


class SweepRequest(Request):
    """Try values of a training job's fields, and name the best."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=150)] | None = Field(
        None, description="A name for people; its jobs are called so too, with their number."
    )
    project: str | None = Field(None, max_length=64, description="Only an admin key may name another project.")
    priority: Annotated[int, Field(ge=-100, le=100)] | None = Field(None, description="By default the base's.")
    labels: Labels = Field(default_factory=dict, description="For every job, beside the base's.")
    base: TrainingRequest = Field(description="The training job that every trial begins with.")
    method: Method = "grid"
    parameters: Annotated[dict[str, SweepParameter], Field(min_length=1, max_length=20)] = Field(
        description="By field of the base, such as learningRate or advanced.neftune_noise_alpha."
    )
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = Field(
        None, description="How many, for random and asha; a grid counts itself."
    )
    concurrency: int = Field(4, ge=1, le=100, description="Jobs that are queued or running at once.")
    metric: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        None, description="By default evalLoss where the base evaluates, else loss."
    )
    goal: Goal = "minimize"
    asha: AshaRequest | None = None
    seed: int = Field(42, ge=0, le=2**31 - 1, description="The same seed draws the same values.")


class SweepTrial(Answer):
    number: int
    job_id: str | None = Field(None, description="None before its job is submitted and after it was deleted.")
    state: str = Field(description="Its job's; `waiting` before there is one, `pruned` for one stopped as hopeless.")
    parameters: dict[str, Any]
    value: float | None = None
    rank: int | None = None
    pruned_at_step: int | None = None
    error: JobError | None = None


class BestTrial(Answer):
    number: int
    job_id: str | None = None
    parameters: dict[str, Any]
    value: float
    model_id: str | None = None


class SweepCounts(Answer):
    trials: int = Field(description="That there will be.")
    waiting: int = 0
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    stopped: int = 0
    pruned: int = 0


class SweepSummary(Answer):
    id: str
    name: str | None = None
    project: str
    state: SweepState
    method: Method
    metric: str
    goal: Goal
    counts: SweepCounts
    created_at: datetime
    ended_at: datetime | None = None


class Sweep(SweepSummary):
    """A sweep with its trials, best first."""

    base: dict[str, Any]
    parameters: dict[str, SweepParameter]
    concurrency: int
    seed: int
    asha: AshaRequest | None = None
    labels: dict[str, str]
    error: JobError | None = None
    best: BestTrial | None = None
    trials: list[SweepTrial]


class SweepPage(Answer):
    items: list[SweepSummary]
    next_cursor: str | None = None
