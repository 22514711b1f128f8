"""AsyncJobs and workers."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from imts_client.awaiting.transport import AsyncTransport, OnBreak
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


class AsyncJobs:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def submit(self, request: JobRequest, *, idempotency_key: str | None = None) -> Job:
        """The kind is the request's own: `submit(AnalysisRequest(dataset="faq"))`."""
        return await self._transport.send(calls.submit(request, idempotency_key))

    async def submit_fields(
        self, kind: JobKind | str, fields: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Job:
        """Unchecked here; the server names what it does not like."""
        return await self._transport.send(calls.submit_fields(str(kind), fields, idempotency_key))

    def list(
        self,
        *,
        states: Sequence[JobState | str] = (),
        kinds: Sequence[JobKind | str] = (),
        labels: Mapping[str, str] | None = None,
        text: str | None = None,
        project: str | None = None,
        most: int | None = None,
    ) -> AsyncIterator[Job]:
        """Newest first; further pages are fetched as they are needed."""
        return self._transport.every(calls.find(states, kinds, labels, text, project), most)

    async def get(self, job_id: str) -> Job:
        return await self._transport.send(calls.get(job_id))

    async def stop(self, job_id: str) -> Job:
        return await self._transport.send(calls.order(job_id, "stop"))

    async def pause(self, job_id: str) -> Job:
        return await self._transport.send(calls.order(job_id, "pause"))

    async def resume(self, job_id: str) -> Job:
        return await self._transport.send(calls.order(job_id, "resume"))

    async def retry(self, job_id: str) -> Job:
        return await self._transport.send(calls.order(job_id, "retry"))

    async def clone(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        return await self._transport.send(calls.clone(job_id, idempotency_key))

    async def delete(self, job_id: str) -> None:
        await self._transport.send(calls.delete(job_id))

    def events(self, job_id: str, *, types: Sequence[str] = (), most: int | None = None) -> AsyncIterator[JobEvent]:
        """What has happened so far."""
        return self._transport.every(calls.events(job_id, types=types), most)

    def watch(
        self,
        job_id: str,
        *,
        after: int = 0,
        on_break: OnBreak | None = None,
        patience: float = STREAM_PATIENCE_SECONDS,
    ) -> AsyncIterator[JobEvent]:
        """Every event after `after`, each once, until the job has ended; reattaches after a break by itself."""
        follow = calls.watch(job_id, after)
        return (follow.parse(item) async for item in self._transport.follow(follow, on_break, patience))

    def logs(self, job_id: str, *, attempt: int | None = None, most: int | None = None) -> AsyncIterator[LogLine]:
        return self._transport.every(calls.logs(job_id, attempt), most)

    def follow_logs(
        self,
        job_id: str,
        *,
        attempt: int | None = None,
        after: int = 0,
        on_break: OnBreak | None = None,
        patience: float = STREAM_PATIENCE_SECONDS,
    ) -> AsyncIterator[LogLine]:
        follow = calls.follow_logs(job_id, attempt, after)
        return (follow.parse(item) async for item in self._transport.follow(follow, on_break, patience))

    async def metrics(self, job_id: str, *, names: Sequence[str] = (), points: int | None = None) -> MetricSeries:
        return await self._transport.send(calls.metrics(job_id, names, points))

    async def wait(self, job_id: str, *, patience: float | None = None) -> Job:
        """The job once it has ended or is paused."""
        until = None if patience is None else time.monotonic() + patience
        pause = 0.1
        while True:
            job = await self.get(job_id)
            if job.state in RESTING_STATES:
                return job
            left = LONGEST_LOOK_SECONDS if until is None else until - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"Job {job_id} is still {job.state} after {patience:g} s.")
            await asyncio.sleep(min(pause, left))
            pause = min(LONGEST_LOOK_SECONDS, pause * 1.5)


class AsyncWorkers:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(self, *, most: int | None = None) -> AsyncIterator[Worker]:
        return self._transport.every(calls.workers(), most)
