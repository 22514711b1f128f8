"""Sending queued work: rows first, messages after the commit.

A message may be lost between the two; then nobody claims the attempt, and it is taken back (leases.py).
"""

import asyncio
import secrets
from dataclasses import dataclass
from uuid import UUID

from loguru import logger
from prometheus_client import Counter
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.database import Database
from control_plane.hints import Hints
from control_plane.jobs.attempts import token_hash
from control_plane.jobs.lifecycle import Happening
from control_plane.jobs.queue import next_jobs
from control_plane.jobs.rows import JobRow
from control_plane.jobs.transitions import Changes, apply, database_now, lock_job
from control_plane.settings import settings
from imts_shared.contracts.internal import RunMessage
from imts_shared.worker.doorbell import Doorbell, DoorbellAway

SENT = Counter("imts_dispatched_total", "Attempts sent to workers.", ["kind"])

_ROOM = """
SELECT w.id, w.queue, w.kinds, w.slots - count(j.id) AS free
FROM workers w LEFT JOIN jobs j ON j.worker_id = w.id AND j.state IN ('dispatched', 'running', 'stopping')
WHERE w.seen_at > clock_timestamp() - make_interval(secs => :gone) AND NOT w.draining
GROUP BY w.id HAVING w.slots > count(j.id)
"""


@dataclass
class _Worker:
    id: str
    queue: str
    kinds: list[str]
    free: int


@dataclass
class _Message:
    queue: str
    kind: str
    run: RunMessage


class Dispatcher:
    def __init__(self, database: Database, hints: Hints, doorbell: Doorbell) -> None:
        self._database = database
        self._hints = hints
        self._doorbell = doorbell

    async def send_waiting(self) -> int:
        """Gives every free slot its next job. Answers how many were sent."""
        changes = Changes()
        async with self._database.transaction() as session:
            messages = await self._assign(session, changes)
        changes.send(self._hints)
        for place, message in enumerate(messages):
            try:
                await asyncio.to_thread(self._doorbell.ring, message.queue, message.run)
            except DoorbellAway as error:
                logger.bind(error=str(error)[:200], waiting=len(messages) - place).warning("redis does not answer")
                await self._take_back(messages[place:])
                raise
            SENT.labels(message.kind).inc()
        return len(messages)

    async def _assign(self, session: AsyncSession, changes: Changes) -> list[_Message]:
        rows = (await session.execute(text(_ROOM), {"gone": settings().worker_gone_seconds})).all()
        workers = [_Worker(identity, queue, list(kinds), int(free)) for identity, queue, kinds, free in rows]
        messages: list[_Message] = []
        for kind in sorted({kind for worker in workers for kind in worker.kinds}):
            room = sum(worker.free for worker in workers if kind in worker.kinds)
            if room <= 0:
                continue
            for job_id in await next_jobs(session, kind, room):
                worker = max((w for w in workers if kind in w.kinds), key=lambda w: w.free)
                message = await self._dispatch(session, job_id, worker, changes)
                if message is not None:
                    worker.free -= 1
                    messages.append(message)
        return messages

    async def _dispatch(
        self, session: AsyncSession, job_id: UUID, worker: _Worker, changes: Changes
    ) -> _Message | None:
        """Skips a row that someone else holds: its holder's commit is a hint to look again."""
        job = (
            await session.execute(
                select(JobRow)
                .where(col(JobRow.id) == job_id, col(JobRow.state) == "queued")
                .with_for_update(skip_locked=True)
            )
        ).scalar_one_or_none()
        if job is None:
            return None
        token = secrets.token_urlsafe(32)
        job.attempt += 1
        job.token_hash = token_hash(token)
        job.worker_id = worker.id
        job.dispatched_at = await database_now(session)
        await apply(session, job, Happening.dispatch, changes, note={"workerId": worker.id})
        run = RunMessage(job_id=str(job.id), attempt=job.attempt, token=token)
        return _Message(worker.queue, job.kind, run)

    async def _take_back(self, messages: list[_Message]) -> None:
        """What could not be sent is queued again at once; it costs the job nothing."""
        changes = Changes()
        for message in messages:
            async with self._database.transaction() as session:
                job = await lock_job(session, message.run.job_id)
                if job.attempt == message.run.attempt:
                    await apply(session, job, Happening.undelivered, changes)
        changes.hints.discard("queue")
        changes.send(self._hints)
