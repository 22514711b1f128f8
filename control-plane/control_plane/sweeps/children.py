"""The training job of one trial."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from control_plane.jobs.service import ENVELOPE, NewJob
from imts_shared.contracts.jobs import JobKind
from imts_shared.contracts.training import TrainingRequest

SWEEP_LABEL = "imts/sweep"
TRIAL_LABEL = "imts/trial"
ADVANCED = "advanced."


def request_with(base: Mapping[str, Any], point: Mapping[str, Any]) -> TrainingRequest:
    """The base with the point's values; pydantic's ValidationError names the fields at fault."""
    fields = dict(base)
    for name, value in point.items():
        if name.startswith(ADVANCED):
            fields["advanced"] = {**fields.get("advanced", {}), name.removeprefix(ADVANCED): value}
        else:
            fields[name] = value
    return TrainingRequest.model_validate(fields)


def new_job(base: Mapping[str, Any], point: Mapping[str, Any], project: str, priority: int, created_by: UUID) -> NewJob:
    request = request_with(base, point)
    return NewJob(
        kind=JobKind.training,
        project=project,
        name=request.name,
        priority=priority,
        labels=request.labels,
        spec=request.model_dump(mode="json", by_alias=True, exclude=set(ENVELOPE), exclude_none=True),
        max_attempts=request.max_attempts,
        timeout_seconds=request.timeout_seconds,
        created_by=created_by,
    )


def key_of(sweep_id: UUID, number: int) -> str:
    """The child's Idempotency-Key: even a second submission would make no second job."""
    return f"sweep-{sweep_id}-{number}"
