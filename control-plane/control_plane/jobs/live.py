"""Live events: one reading of the table per job and change, shared by all who watch that job in this process."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import UUID

from loguru import logger
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.database import Database
from control_plane.jobs import events
from control_plane.jobs.rows import JobRow
from imts_shared.contracts.jobs import FINAL_STATES, EventType, JobEvent

KEPT = 2_000
PAGE = 1_000
LOOK_SECONDS = 3.0
"""How long a reader trusts the hints before it looks by itself."""

PULSE_SECONDS = 15.0
PULSE = b": still here\n\n"
END = b"event: end\ndata: {}\n\n"


def rendered(event: JobEvent) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.seq,
        event.type.encode(),
        event.model_dump_json(by_alias=True).encode(),
    )


def ended(page: list[JobEvent], before: bool) -> bool:
    """The last state of the page counts: messages may follow an end."""
    states = [event.data.get("state") for event in page if event.type == EventType.state]
    return states[-1] in FINAL_STATES if states else before


@dataclass
class _Topic:
    """The newest events of one job: `recent` holds those after `start` up to `last`."""

    start: int
    last: int
    ended: bool
    recent: list[bytes] = field(default_factory=list)
    watchers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    pulses: int = 0
    hinted: asyncio.Event = field(default_factory=asyncio.Event)
    reader: asyncio.Task[None] | None = None


class LiveEvents:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._topics: dict[UUID, _Topic] = {}
        self._closed = False

    def close(self) -> None:
        """Ends every stream where it is; its reader comes back with the last event that it saw."""
        self._closed = True
        for topic in self._topics.values():
            self._wake(topic)

    def hear(self, hint: str) -> None:
        if hint.startswith("job:"):
            topic = self._topics.get(UUID(hint[4:]))
            if topic is not None:
                topic.hinted.set()

    async def watch(self, job_id: UUID, after: int) -> AsyncIterator[bytes]:
        """Every event after `after`, each once and in order, then the end of the job; b'' when all is quiet."""
        topic = await self._join(job_id)
        try:
            while True:
                if after < topic.start:
                    async for event in self._older(job_id, after, topic.start):
                        after = event.seq
                        yield rendered(event)
                        if after >= topic.start:
                            break
                    after = max(after, topic.start)
                changed = topic.changed
                if after < topic.last:
                    fresh = topic.recent[after - topic.start :]
                    after = topic.start + len(topic.recent)
                    yield b"".join(fresh)
                    continue
                if topic.ended:
                    yield END
                    return
                if self._closed:
                    return
                pulses = topic.pulses
                await changed.wait()
                if topic.pulses != pulses:
                    yield PULSE
        finally:
            self._leave(job_id, topic)

    async def _join(self, job_id: UUID) -> _Topic:
        topic = self._topics.get(job_id)
        if topic is None:
            last, ended = await self._standing(job_id)
            topic = self._topics.setdefault(job_id, _Topic(start=last, last=last, ended=ended))
        topic.watchers += 1
        if topic.reader is None:
            topic.reader = asyncio.create_task(self._read(job_id, topic))
        return topic

    def _leave(self, job_id: UUID, topic: _Topic) -> None:
        topic.watchers -= 1
        if topic.watchers == 0 and self._topics.get(job_id) is topic:
            del self._topics[job_id]
            if topic.reader is not None:
                topic.reader.cancel()

    async def _standing(self, job_id: UUID) -> tuple[int, bool]:
        async with self._database.transaction() as session:
            found = (
                await session.execute(select(col(JobRow.last_seq), col(JobRow.state)).where(col(JobRow.id) == job_id))
            ).one_or_none()
        return (found[0], found[1] in FINAL_STATES) if found else (0, True)

    async def _older(self, job_id: UUID, after: int, until: int) -> AsyncIterator[JobEvent]:
        while after < until:
            async with self._database.transaction() as session:
                page = await events.read(session, job_id, after, PAGE)
            if not page:
                return
            for event in page:
                yield event
            after = page[-1].seq

    async def _read(self, job_id: UUID, topic: _Topic) -> None:
        """Reads on whenever a hint comes or none came for a while, and wakes the watchers.

        It also gives the pulse of quiet streams: a thousand watchers with a timer each would cost more than the news.
        """
        pulse_at = time.monotonic() + PULSE_SECONDS
        while True:
            if time.monotonic() >= pulse_at:
                pulse_at = time.monotonic() + PULSE_SECONDS
                topic.pulses += 1
                self._wake(topic)
            try:
                await self._read_on(job_id, topic)
            except (DBAPIError, OSError, TimeoutError) as error:
                logger.bind(error=type(error).__name__).warning("live events: the database does not answer")
                await asyncio.sleep(1)
                continue
            try:
                await asyncio.wait_for(topic.hinted.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    async def _read_on(self, job_id: UUID, topic: _Topic) -> None:
        while True:
            topic.hinted.clear()
            async with self._database.transaction() as session:
                page = await events.read(session, job_id, topic.last, PAGE)
                alive = bool(page) or await self._exists(session, job_id)
            if not page:
                if not alive and not topic.ended:
                    topic.ended = True
                    self._wake(topic)
                return
            topic.recent.extend(rendered(event) for event in page)
            topic.last = page[-1].seq
            topic.ended = ended(page, topic.ended)
            surplus = len(topic.recent) - KEPT
            if surplus > 0:
                del topic.recent[:surplus]
                topic.start += surplus
            self._wake(topic)

    @staticmethod
    def _wake(topic: _Topic) -> None:
        changed, topic.changed = topic.changed, asyncio.Event()
        changed.set()

    @staticmethod
    async def _exists(session: AsyncSession, job_id: UUID) -> bool:
        found = await session.execute(select(col(JobRow.id)).where(col(JobRow.id) == job_id))
        return found.one_or_none() is not None
