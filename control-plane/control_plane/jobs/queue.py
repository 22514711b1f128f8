"""Who is next: the order of the queue, used alike to send work and to tell people how long they will wait.

Higher priority first; among equals the project that holds and would hold the fewest running jobs; then the oldest.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import Database
from control_plane.hints import MOVED, QUEUE
from control_plane.jobs.rows import JobRow
from control_plane.workers.room import Room, chosen, free_slots, owned, rooms
from imts_shared.contracts.jobs import JobKind, WaitingFor

RANKED_AT_MOST = 10_000

_HELD = """
held AS (
    SELECT project, count(*) AS n FROM jobs
    WHERE worker_id IS NOT NULL AND state IN ('dispatched', 'running', 'stopping') GROUP BY project
)"""

_NEXT = f"""
WITH {_HELD}, ready AS (
    SELECT q.id, q.priority, p.max_running_jobs,
           coalesce(h.n, 0) + row_number() OVER (PARTITION BY p.name ORDER BY q.priority DESC, q.id) AS turn
    FROM projects p LEFT JOIN held h ON h.project = p.name
    CROSS JOIN LATERAL (
        SELECT id, priority FROM jobs
        WHERE state = 'queued' AND kind = :kind AND project = p.name
          AND (not_before IS NULL OR not_before <= clock_timestamp())
        ORDER BY priority DESC, id LIMIT :room
    ) q
)
SELECT id FROM ready WHERE max_running_jobs IS NULL OR turn <= max_running_jobs
ORDER BY priority DESC, turn, id LIMIT :room
"""

_NEXT_ASKING = f"""
WITH {_HELD}, classes AS MATERIALIZED (
    SELECT asked FROM (
        SELECT CASE WHEN n < 0 THEN 'null'::jsonb ELSE to_jsonb(n) END FROM unnest(CAST(:asked AS int[])) n
    ) named (asked)
    WHERE EXISTS (
        SELECT 1 FROM jobs
        WHERE state = 'queued' AND kind <> 'analysis' AND kind = :kind
          AND coalesce(spec -> 'gpus', 'null'::jsonb) = asked
    )
), ready AS (
    SELECT q.id, q.priority, q.created_at, c.asked, p.max_running_jobs,
           coalesce(h.n, 0) + row_number() OVER (PARTITION BY p.name ORDER BY q.priority DESC, q.id) AS turn
    FROM projects p LEFT JOIN held h ON h.project = p.name CROSS JOIN classes c
    CROSS JOIN LATERAL (
        SELECT id, priority, created_at FROM jobs
        WHERE state = 'queued' AND kind <> 'analysis' AND kind = :kind
          AND coalesce(spec -> 'gpus', 'null'::jsonb) = c.asked AND project = p.name
          AND (not_before IS NULL OR not_before <= clock_timestamp())
        ORDER BY priority DESC, id LIMIT :room
    ) q
)
SELECT id, asked, priority FROM ready
WHERE (max_running_jobs IS NULL OR turn <= max_running_jobs)
  AND created_at <= clock_timestamp() - make_interval(secs => :waited)
ORDER BY priority DESC, turn, id LIMIT :room
"""
"""Of each class of jobs (by the GPUs that they ask for) the first: what fits nowhere is not even looked at."""

_POSITIONS = f"""
WITH {_HELD}, queued AS (
    SELECT q.id, q.priority,
           coalesce(h.n, 0) + row_number() OVER (PARTITION BY p.name ORDER BY q.priority DESC, q.id) AS turn
    FROM projects p LEFT JOIN held h ON h.project = p.name
    CROSS JOIN LATERAL (
        SELECT id, priority FROM jobs WHERE state = 'queued' AND kind = :kind AND project = p.name
        ORDER BY priority DESC, id LIMIT :most
    ) q
), ranked AS (SELECT id, row_number() OVER (ORDER BY priority DESC, turn, id) AS position FROM queued)
SELECT id, position FROM ranked WHERE id = ANY(CAST(:ids AS uuid[]))
"""

_DEPTH = """
SELECT priority, count(*) FROM (
    SELECT priority FROM jobs WHERE state = 'queued' AND kind = :kind LIMIT :most
) queued GROUP BY priority
"""

_USUAL_SECONDS = """
SELECT avg(extract(epoch FROM ended_at - attempt_started_at)) FROM (
    SELECT ended_at, attempt_started_at FROM jobs
    WHERE kind = :kind AND ended_at IS NOT NULL AND state = 'succeeded' ORDER BY ended_at DESC LIMIT 20
) recent
"""

_FULL_PROJECTS = f"""
WITH {_HELD}
SELECT p.name, p.max_running_jobs FROM projects p LEFT JOIN held h ON h.project = p.name
WHERE p.max_running_jobs IS NOT NULL AND coalesce(h.n, 0) >= p.max_running_jobs
"""


async def next_jobs(session: AsyncSession, kind: str, room: int) -> list[UUID]:
    return list((await session.execute(text(_NEXT), {"kind": kind, "room": room})).scalars())


@dataclass(frozen=True)
class Waiting:
    id: UUID
    gpus: int | None
    priority: int


async def next_asking(
    session: AsyncSession, kind: str, room: int, asked: Sequence[int | None], waited: float = 0
) -> list[Waiting]:
    """Those that ask for so many GPUs (None: that say nothing of GPUs) and have waited so many seconds."""
    classes = [-1 if gpus is None else gpus for gpus in asked]
    given = {"kind": kind, "room": room, "asked": classes, "waited": waited}
    rows = (await session.execute(text(_NEXT_ASKING), given)).all()
    return [Waiting(identity, None if gpus is None else int(gpus), priority) for identity, gpus, priority in rows]


@dataclass
class Supply:
    """The workers of one kind of jobs."""

    rooms: list[Room] = field(default_factory=list)

    @property
    def slots(self) -> int:
        return sum(room.slots for room in self.rooms if not room.draining)

    @property
    def free(self) -> int:
        return free_slots(self.rooms)

    def place_now(self, gpus: int | None) -> bool:
        return chosen(self.rooms, gpus) is not None


@dataclass
class _Depth:
    """How many are queued by priority: counted now and then, and counted on with each submission."""

    by_priority: dict[int, int] = field(default_factory=dict)
    counted_at: float = -1e9
    stale: bool = True
    counting: bool = False

    def position(self, priority: int) -> int:
        return sum(count for other, count in self.by_priority.items() if other >= priority)


@dataclass
class Wait:
    position: int | None
    expected_start_at: datetime | None
    waiting_for: WaitingFor


class QueueView:
    """What the api knows of the queue: exact for reading; for a burst of submissions at most a moment old."""

    SUBMISSIONS_TRUST_SECONDS = 0.25

    def __init__(self) -> None:
        self._depth = {str(kind): _Depth() for kind in JobKind}
        self._supply: dict[str, Supply] = {}
        self._full: dict[str, int] = {}
        self._supply_at = -1e9
        self._usual: dict[str, tuple[float, float | None]] = {}

    def hear(self, hint: str) -> None:
        if hint in {QUEUE, MOVED}:
            for depth in self._depth.values():
                depth.stale = True

    async def count_in(self, database: Database, kind: str, priority: int) -> None:
        """A job was stored. Of a burst of submissions one counts the table, the others count on from there."""
        depth = self._depth[kind]
        now = time.monotonic()
        if depth.counting or not depth.stale or now - depth.counted_at < self.SUBMISSIONS_TRUST_SECONDS:
            depth.by_priority[priority] = depth.by_priority.get(priority, 0) + 1
            return
        depth.counting = True
        try:
            async with database.transaction() as session:
                found = await session.execute(text(_DEPTH), {"kind": kind, "most": RANKED_AT_MOST})
                depth.by_priority = {priority: int(count) for priority, count in found.all()}
                await self._read_supply(session, now)
                await self._read_usual(session, kind, now)
            depth.counted_at = now
            depth.stale = False
        finally:
            depth.counting = False

    def depth(self, kind: str, priority: int) -> int:
        """How many are queued that go no later than a job of this priority submitted now."""
        return self._depth[kind].position(priority)

    async def waits(self, session: AsyncSession, rows: Sequence[JobRow]) -> dict[UUID, Wait]:
        """Exactly where these queued jobs stand; nowhere (None) beyond the first ten thousand of a project."""
        now = time.monotonic()
        by_kind: dict[str, list[JobRow]] = {}
        for row in rows:
            by_kind.setdefault(row.kind, []).append(row)
        if by_kind:
            await self._read_supply(session, now)
        waits: dict[UUID, Wait] = {}
        for kind, queued in by_kind.items():
            await self._read_usual(session, kind, now)
            asked = {"kind": kind, "most": RANKED_AT_MOST, "ids": [row.id for row in queued]}
            positions = {identity: int(n) for identity, n in (await session.execute(text(_POSITIONS), asked)).all()}
            waits.update(
                {
                    row.id: self.wait(kind, row.project, positions.get(row.id), row.not_before, gpus_of(row.spec))
                    for row in queued
                }
            )
        return waits

    async def _read_supply(self, session: AsyncSession, now: float) -> None:
        there = await rooms(session)
        kinds = {kind for room in there for kind in room.kinds}
        self._supply = {kind: Supply([room for room in there if kind in room.kinds]) for kind in kinds}
        self._full = {name: int(most) for name, most in (await session.execute(text(_FULL_PROJECTS))).all()}
        self._supply_at = now

    async def _read_usual(self, session: AsyncSession, kind: str, now: float) -> None:
        """How long such jobs usually take, asked at most every ten seconds."""
        if now - self._usual.get(kind, (-1e9, None))[0] > 10:
            usual = (await session.execute(text(_USUAL_SECONDS), {"kind": kind})).scalar()
            self._usual[kind] = (now, float(usual) if usual is not None else None)

    def wait(
        self,
        kind: str,
        project: str,
        position: int | None,
        not_before: datetime | None = None,
        gpus: int | None = None,
    ) -> Wait:
        now = datetime.now(UTC)
        supply = self._supply.get(kind, Supply())
        expected = self._expected(kind, supply, position, gpus, now)
        if not_before is not None and not_before > now:
            expected = max(expected, not_before) if expected else None
            return Wait(position, expected, _backoff(not_before))
        return Wait(position, expected, self._reason(kind, project, supply, position, gpus))

    def _expected(
        self, kind: str, supply: Supply, position: int | None, gpus: int | None, now: datetime
    ) -> datetime | None:
        if position is None or supply.slots == 0 or _too_many(supply, gpus):
            return None
        if position <= supply.free and supply.place_now(gpus):
            return now
        usual = self._usual.get(kind, (0.0, None))[1]
        if usual is None:
            return None
        return now + timedelta(seconds=max(1, ceil((position - supply.free) / supply.slots)) * usual)

    def _reason(self, kind: str, project: str, supply: Supply, position: int | None, gpus: int | None) -> WaitingFor:
        if supply.slots == 0:
            return WaitingFor(code="no_worker", message=f"No worker for {kind} jobs is connected.")
        if _too_many(supply, gpus):
            most = owned(supply.rooms)
            return WaitingFor(code="no_worker", message=f"No worker owns {gpus} GPUs; the largest has {most}.")
        if project in self._full:
            return WaitingFor(
                code="quota",
                message=f"Project {project!r} already runs the {self._full[project]} jobs that its quota allows.",
            )
        ahead = f"{position - 1}" if position else f"more than {RANKED_AT_MOST}"
        if supply.free == 0:
            return WaitingFor(
                code="busy",
                message=f"All {supply.slots} slots for {kind} jobs are busy; jobs ahead of this one: {ahead}.",
            )
        if not supply.place_now(gpus):
            needed = 1 if gpus is None else gpus
            most = max(room.most for room in supply.rooms)
            return WaitingFor(
                code="busy",
                message=f"GPUs needed on one worker: {needed}, free on one: {most}; jobs ahead of this one: {ahead}.",
            )
        return WaitingFor(code="turn", message=f"A slot is about to be given; jobs ahead of this one: {ahead}.")


def gpus_of(spec: Mapping[str, Any]) -> int | None:
    """The GPUs that a job asks for; None where it says nothing of them."""
    gpus = spec.get("gpus")
    return gpus if isinstance(gpus, int) else None


def _too_many(supply: Supply, gpus: int | None) -> bool:
    """Whether no worker could ever take it. Where nobody has a GPU, every job runs on the CPU."""
    return gpus is not None and gpus > owned(supply.rooms) > 0


def _backoff(not_before: datetime) -> WaitingFor:
    return WaitingFor(
        code="backoff", message=f"The last attempt was lost; the next one is made after {not_before.isoformat()}."
    )
