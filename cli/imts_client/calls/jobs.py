"""Jobs, their events, logs and metrics, and the workers that run them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from imts_client.calls.call import Call, Follow, Listing, path, query

if TYPE_CHECKING:
    from imts_shared.contracts.envelope import JobRequest
    from imts_shared.contracts.jobs import Job, JobEvent, LogLine, MetricSeries
    from imts_shared.contracts.workers import Worker

ORDERS = ("stop", "pause", "resume", "retry")
_REPEATABLE_ORDERS = {"stop", "pause", "resume"}
"""A repeated `retry` could try a job a second time that had failed again meanwhile."""


def kind_of(request: "JobRequest") -> str:
    from imts_shared.contracts.jobs import REQUESTS

    return next(kind.value for kind, model in REQUESTS.items() if type(request) is model)


def submit(request: "JobRequest", idempotency_key: str | None = None) -> "Call[Job]":
    fields = request.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return submit_fields(kind_of(request), fields, idempotency_key)


def submit_fields(kind: str, fields: Mapping[str, Any], idempotency_key: str | None = None) -> "Call[Job]":
    """Always with an Idempotency-Key, so that a lost answer never makes a second job."""
    headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
    return Call("POST", path(kind, "jobs"), "jobs.Job", json=dict(fields), headers=headers, repeatable=True)


def find(
    states: Sequence[str] = (),
    kinds: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    text: str | None = None,
    project: str | None = None,
    limit: int | None = None,
) -> "Listing[Job]":
    pairs = [f"{key}={value}" for key, value in (labels or {}).items()]
    params = query(state=list(states), kind=list(kinds), label=pairs, text=text, project=project, limit=limit)
    return Listing(path("jobs"), "jobs.JobPage", "jobs.Job", params)


def get(job_id: str) -> "Call[Job]":
    return Call("GET", path("jobs", job_id), "jobs.Job", repeatable=True)


def order(job_id: str, what: str) -> "Call[Job]":
    return Call("POST", path("jobs", job_id, what), "jobs.Job", repeatable=what in _REPEATABLE_ORDERS)


def clone(job_id: str, idempotency_key: str | None = None) -> "Call[Job]":
    headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
    return Call("POST", path("jobs", job_id, "clone"), "jobs.Job", headers=headers, repeatable=True)


def delete(job_id: str) -> "Call[None]":
    return Call("DELETE", path("jobs", job_id), repeatable=True)


def events(job_id: str, limit: int | None = None, types: Sequence[str] = ()) -> "Listing[JobEvent]":
    params = query(limit=limit, type=list(types))
    return Listing(path("jobs", job_id, "events"), "jobs.JobEventPage", "jobs.JobEvent", params)


def watch(job_id: str, after: int = 0) -> "Follow[JobEvent]":
    return Follow(path("jobs", job_id, "events"), "jobs.JobEvent", after=after)


def logs(job_id: str, attempt: int | None = None, limit: int | None = None) -> "Listing[LogLine]":
    params = query(attempt=attempt, limit=limit)
    return Listing(path("jobs", job_id, "logs"), "jobs.LogPage", "jobs.LogLine", params)


def follow_logs(job_id: str, attempt: int | None = None, after: int = 0) -> "Follow[LogLine]":
    return Follow(path("jobs", job_id, "logs"), "jobs.LogLine", query(attempt=attempt), after)


def metrics(job_id: str, names: Sequence[str] = (), points: int | None = None) -> "Call[MetricSeries]":
    params = query(names=list(names), points=points)
    return Call("GET", path("jobs", job_id, "metrics"), "jobs.MetricSeries", params, repeatable=True)


def workers(limit: int | None = None) -> "Listing[Worker]":
    return Listing(path("workers"), "workers.WorkerPage", "workers.Worker", query(limit=limit))
