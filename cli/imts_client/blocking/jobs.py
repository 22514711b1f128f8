"""Jobs and workers."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imts_client.blocking.transport import OnBreak, Transport
from imts_client.calls import jobs as calls
from imts_client.errors import WaitTimeout
from imts_client.exchange import STREAM_PATIENCE_SECONDS
from imts_shared.contracts.envelope import JobRequest
from imts_shared.contracts.jobs import (
    FINAL_STATES,
    Job,
    JobEvent,
    JobKind,
    JobState,
    LogLine,
    MetricSeries,
)
from imts_shared.contracts.workers import Worker

RESTING_STATES = FINAL_STATES | {JobState.paused}
LONGEST_LOOK_SECONDS = 2.0


class Jobs:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def submit(self, request: JobRequest, *, idempotency_key: str | None = None) -> Job:
        """The kind is the request's own: `submit(AnalysisRequest(dataset="faq"))`."""
        return self._transport.send(calls.submit(request, idempotency_key))

    def submit_fields(
        self, kind: JobKind | str, fields: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Job:
        """Unchecked here; the server names what it does not like."""
        return self._transport.send(calls.submit_fields(str(kind), fields, idempotency_key))

    def list(
        self,
        *,
        states: Sequence[JobState | str] = (),
        kinds: Sequence[JobKind | str] = (),
        labels: Mapping[str, str] | None = None,
        text: str | None = None,
        project: str | None = None,
        most: int | None = None,
    ) -> Iterator[Job]:
        """Newest first; further pages are fetched as they are needed."""
        return self._transport.every(calls.find(states, kinds, labels, text, project), most)

    def get(self, job_id: str) -> Job:
        return self._transport.send(calls.get(job_id))

    def stop(self, job_id: str) -> Job:
        return self._transport.send(calls.order(job_id, "stop"))

    def pause(self, job_id: str) -> Job:
        return self._transport.send(calls.order(job_id, "pause"))

    def resume(self, job_id: str) -> Job:
        return self._transport.send(calls.order(job_id, "resume"))

    def retry(self, job_id: str) -> Job:
        return self._transport.send(calls.order(job_id, "retry"))

    def clone(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        return self._transport.send(calls.clone(job_id, idempotency_key))

    def delete(self, job_id: str) -> None:
        self._transport.send(calls.delete(job_id))

    def events(self, job_id: str, *, types: Sequence[str] = (), most: int | None = None) -> Iterator[JobEvent]:
        """What has happened so far."""
        return self._transport.every(calls.events(job_id, types=types), most)

    def watch(
        self,
        job_id: str,
        *,
        after: int = 0,
        on_break: OnBreak | None = None,
        patience: float = STREAM_PATIENCE_SECONDS,
    ) -> Iterator[JobEvent]:
        """Every event after `after`, each once, until the job has ended; reattaches after a break by itself."""
        follow = calls.watch(job_id, after)
        return (follow.parse(item) for item in self._transport.follow(follow, on_break, patience))

    def logs(self, job_id: str, *, attempt: int | None = None, most: int | None = None) -> Iterator[LogLine]:
        return self._transport.every(calls.logs(job_id, attempt), most)

    def follow_logs(
        self,
        job_id: str,
        *,
        attempt: int | None = None,
        after: int = 0,
        on_break: OnBreak | None = None,
        patience: float = STREAM_PATIENCE_SECONDS,
    ) -> Iterator[LogLine]:
        follow = calls.follow_logs(job_id, attempt, after)
        return (follow.parse(item) for item in self._transport.follow(follow, on_break, patience))

    def metrics(self, job_id: str, *, names: Sequence[str] = (), points: int | None = None) -> MetricSeries:
        return self._transport.send(calls.metrics(job_id, names, points))

    def wait(self, job_id: str, *, patience: float | None = None) -> Job:
        """The job once it has ended or is paused."""
        until = None if patience is None else time.monotonic() + patience
        pause = 0.1
        while True:
            job = self.get(job_id)
            if job.state in RESTING_STATES:
                return job
            left = LONGEST_LOOK_SECONDS if until is None else until - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"Job {job_id} is still {job.state} after {patience:g} s.")
            time.sleep(min(pause, left))
            pause = min(LONGEST_LOOK_SECONDS, pause * 1.5)


class Workers:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, most: int | None = None) -> Iterator[Worker]:
        return self._transport.every(calls.workers(), most)
