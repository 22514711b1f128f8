"""Sending queued work: rows first, messages after the commit.

A message may be lost between the two; then nobody claims the attempt, and it is taken back (leases.py).
"""

import asyncio
import secrets
from dataclasses import dataclass
from uuid import UUID

from loguru import logger
from prometheus_client import Counter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.database import Database
from control_plane.hints import Hints
from control_plane.jobs.attempts import token_hash
from control_plane.jobs.lifecycle import Happening
from control_plane.jobs.queue import next_asking, next_jobs
from control_plane.jobs.rows import JobRow
from control_plane.jobs.transitions import Changes, apply, database_now, lock_job
from control_plane.settings import settings
from control_plane.workers.room import Room, askable, chosen, free_slots, owned, rooms
from imts_shared.contracts.internal import RunMessage
from imts_shared.worker.doorbell import Doorbell, DoorbellAway

SENT = Counter("imts_dispatched_total", "Attempts sent to workers.", ["kind"])


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
        there = await rooms(session)
        by_kind = {
            kind: [room for room in there if kind in room.kinds]
            for kind in sorted({kind for room in there for kind in room.kinds})
        }
        kept: list[Room] = []
        messages: list[_Message] = []
        for kind, places in by_kind.items():
            messages += await self._serve_patient(session, kind, places, kept, changes)
        for kind, places in by_kind.items():
            if owned(places):
                messages += await self._by_gpus(session, kind, places, kept, changes)
            else:
                messages += await self._by_slots(session, kind, places, changes)
        return messages

    async def _by_slots(self, session: AsyncSession, kind: str, places: list[Room], changes: Changes) -> list[_Message]:
        messages: list[_Message] = []
        free = free_slots(places)
        for job_id in await next_jobs(session, kind, free) if free else []:
            room = chosen(places, None)
            if room is None:
                break
            message = await self._dispatch(session, job_id, room, changes)
            if message is not None:
                room.take(None)
                messages.append(message)
        return messages

    async def _by_gpus(
        self, session: AsyncSession, kind: str, places: list[Room], kept: list[Room], changes: Changes
    ) -> list[_Message]:
        """Only what finds a place is looked for, so that nothing waits behind a job that does not. What was found may
        take the place of what was found after it; then it is looked again for what fits the rest.
        """
        messages: list[_Message] = []
        while asked := askable(places, kept):
            given = left = 0
            for job in await next_asking(session, kind, free_slots(places, kept), asked):
                room = chosen(places, job.gpus, kept)
                if room is None:
                    left += 1
                    continue
                message = await self._dispatch(session, job.id, room, changes)
                if message is not None:
                    room.take(job.gpus)
                    messages.append(message)
                    given += 1
            if not (given and left):
                break
        return messages

    async def _serve_patient(
        self, session: AsyncSession, kind: str, places: list[Room], kept: list[Room], changes: Changes
    ) -> list[_Message]:
        """The first of the jobs for several GPUs that have waited for long goes before all others of its priority.
        Until it finds a place, the worker that has the most free, of those that own enough, is kept for it.
        """
        several = range(2, owned(places) + 1)
        patient = await next_asking(session, kind, 1, several, settings().gpu_patience_seconds) if several else []
        if not patient:
            return []
        job = patient[0]
        others = await next_asking(session, kind, 1, askable(places, kept))
        if others and others[0].priority > job.priority:
            return []
        room = chosen(places, job.gpus, kept)
        if room is None:
            large = [r for r in places if r.gpus >= (job.gpus or 0) and not r.draining and r not in kept]
            kept.extend(sorted(large, key=lambda r: (-r.free_gpus, r.id))[:1])
            return []
        message = await self._dispatch(session, job.id, room, changes)
        if message is None:
            return []
        room.take(job.gpus)
        return [message]

    async def _dispatch(self, session: AsyncSession, job_id: UUID, room: Room, changes: Changes) -> _Message | None:
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
        job.worker_id = room.id
        job.dispatched_at = await database_now(session)
        await apply(session, job, Happening.dispatch, changes, note={"workerId": room.id})
        run = RunMessage(job_id=str(job.id), attempt=job.attempt, token=token)
        return _Message(room.queue, job.kind, run)

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
