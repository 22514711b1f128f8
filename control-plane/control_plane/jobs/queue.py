"""Who is next: the order of the queue, used alike to send work and to tell people how long they will wait.

Higher priority first; among equals the project that holds and would hold the fewest running jobs; then the oldest.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import Database
from control_plane.hints import MOVED, QUEUE
from control_plane.jobs.rows import JobRow
from control_plane.settings import settings
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

_SUPPLY = """
SELECT kind, count(*) AS workers, sum(w.slots) AS slots,
       sum((SELECT count(*) FROM jobs j WHERE j.worker_id = w.id AND j.state IN ('dispatched', 'running', 'stopping')))
FROM workers w, unnest(w.kinds) AS kind
WHERE w.seen_at > clock_timestamp() - make_interval(secs => :gone) AND NOT w.draining GROUP BY kind
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


@dataclass
class Supply:
    workers: int = 0
    slots: int = 0
    busy: int = 0

    @property
    def free(self) -> int:
        return max(0, self.slots - self.busy)


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
                {row.id: self.wait(kind, row.project, positions.get(row.id), row.not_before) for row in queued}
            )
        return waits

    async def _read_supply(self, session: AsyncSession, now: float) -> None:
        gone = settings().worker_gone_seconds
        rows = (await session.execute(text(_SUPPLY), {"gone": gone})).all()
        self._supply = {kind: Supply(int(workers), int(slots), int(busy)) for kind, workers, slots, busy in rows}
        self._full = {name: int(most) for name, most in (await session.execute(text(_FULL_PROJECTS))).all()}
        self._supply_at = now

    async def _read_usual(self, session: AsyncSession, kind: str, now: float) -> None:
        """How long such jobs usually take, asked at most every ten seconds."""
        if now - self._usual.get(kind, (-1e9, None))[0] > 10:
            usual = (await session.execute(text(_USUAL_SECONDS), {"kind": kind})).scalar()
            self._usual[kind] = (now, float(usual) if usual is not None else None)

    def wait(self, kind: str, project: str, position: int | None, not_before: datetime | None = None) -> Wait:
        now = datetime.now(UTC)
        supply = self._supply.get(kind, Supply())
        expected = self._expected(kind, supply, position, now)
        if not_before is not None and not_before > now:
            expected = max(expected, not_before) if expected else None
            return Wait(position, expected, _backoff(not_before))
        return Wait(position, expected, self._reason(kind, project, supply, position))

    def _expected(self, kind: str, supply: Supply, position: int | None, now: datetime) -> datetime | None:
        if position is None or supply.slots == 0:
            return None
        if position <= supply.free:
            return now
        usual = self._usual.get(kind, (0.0, None))[1]
        if usual is None:
            return None
        return now + timedelta(seconds=ceil((position - supply.free) / supply.slots) * usual)

    def _reason(self, kind: str, project: str, supply: Supply, position: int | None) -> WaitingFor:
        if supply.slots == 0:
            return WaitingFor(code="no_worker", message=f"No worker for {kind} jobs is connected.")
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
        return WaitingFor(code="turn", message=f"A slot is about to be given; jobs ahead of this one: {ahead}.")


def _backoff(not_before: datetime) -> WaitingFor:
    return WaitingFor(
        code="backoff", message=f"The last attempt was lost; the next one is made after {not_before.isoformat()}."
    )
