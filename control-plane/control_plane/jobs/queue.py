"""Who is next: the order of the queue, used alike to send work and to tell people how long they will wait.

Higher priority first; among equals the project that holds and would hold the fewest running jobs; then the oldest.
"""

import bisect
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.hints import MOVED, QUEUE
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

_RANKED = f"""
WITH {_HELD}, queued AS (
    SELECT j.id, j.priority,
           coalesce(h.n, 0) + row_number() OVER (PARTITION BY j.project ORDER BY j.priority DESC, j.id) AS turn
    FROM jobs j LEFT JOIN held h ON h.project = j.project
    WHERE j.state = 'queued' AND j.kind = :kind
)
SELECT id, priority FROM queued ORDER BY priority DESC, turn, id LIMIT :most
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
class _Kind:
    positions: dict[UUID, int] = field(default_factory=dict)
    keys: list[int] = field(default_factory=list)
    taken_at: float = 0.0
    stale: bool = True
    usual_seconds: float | None = None
    usual_at: float = -1e9


@dataclass
class Wait:
    position: int | None
    expected_start_at: datetime | None
    waiting_for: WaitingFor


class QueueView:
    """What the api knows of the queue. Exact for reading; for a burst of submissions it is counted on between reads."""

    def __init__(self) -> None:
        self._kinds = {str(kind): _Kind() for kind in JobKind}
        self._supply: dict[str, Supply] = {}
        self._full: dict[str, int] = {}
        self._supply_at = -1e9

    def hear(self, hint: str) -> None:
        if hint in {QUEUE, MOVED}:
            for kind in self._kinds.values():
                kind.stale = True
            self._supply_at = -1e9

    async def refresh(self, session: AsyncSession, kinds: set[str], *, patience: float = 0.0) -> None:
        """Reads what is stale; within `patience` seconds of the last reading stale will do."""
        now = time.monotonic()
        if now - self._supply_at > max(1.0, patience):
            await self._read_supply(session, now)
        for name in kinds:
            kind = self._kinds[name]
            if (kind.stale and now - kind.taken_at >= patience) or now - kind.taken_at > 5:
                await self._read_ranking(session, name, kind, now)

    async def _read_supply(self, session: AsyncSession, now: float) -> None:
        gone = settings().worker_gone_seconds
        rows = (await session.execute(text(_SUPPLY), {"gone": gone})).all()
        self._supply = {kind: Supply(int(workers), int(slots), int(busy)) for kind, workers, slots, busy in rows}
        self._full = {name: most for name, most in (await session.execute(text(_FULL_PROJECTS))).all()}
        self._supply_at = now

    async def _read_ranking(self, session: AsyncSession, name: str, kind: _Kind, now: float) -> None:
        kind.stale = False
        ranked = (await session.execute(text(_RANKED), {"kind": name, "most": RANKED_AT_MOST})).all()
        kind.positions = {identity: place for place, (identity, _) in enumerate(ranked, start=1)}
        kind.keys = [-priority for _, priority in ranked]
        kind.taken_at = now
        if now - kind.usual_at > 10:
            usual = (await session.execute(text(_USUAL_SECONDS), {"kind": name})).scalar()
            kind.usual_seconds = float(usual) if usual is not None else None
            kind.usual_at = now

    def joined(self, name: str, identity: UUID, priority: int) -> None:
        """A job that this process has just stored, counted in before the next reading."""
        kind = self._kinds[name]
        if identity in kind.positions:
            return
        place = bisect.bisect_right(kind.keys, -priority)
        kind.keys.insert(place, -priority)
        kind.positions[identity] = place + 1

    def wait(
        self,
        name: str,
        identity: UUID,
        project: str,
        not_before: datetime | None,
        now: datetime | None = None,
    ) -> Wait:
        now = now or datetime.now(UTC)
        kind = self._kinds[name]
        supply = self._supply.get(name, Supply())
        position = kind.positions.get(identity)
        expected = self._expected(kind, supply, position, now)
        if not_before is not None and not_before > now:
            expected = max(expected, not_before) if expected else None
        return Wait(position, expected, self._reason(name, supply, project, position, not_before, now))

    @staticmethod
    def _expected(kind: _Kind, supply: Supply, position: int | None, now: datetime) -> datetime | None:
        if position is None or supply.slots == 0:
            return None
        if position <= supply.free:
            return now
        if kind.usual_seconds is None:
            return None
        return now + timedelta(seconds=ceil((position - supply.free) / supply.slots) * kind.usual_seconds)

    def _reason(
        self,
        name: str,
        supply: Supply,
        project: str,
        position: int | None,
        not_before: datetime | None,
        now: datetime,
    ) -> WaitingFor:
        if not_before is not None and not_before > now:
            return WaitingFor(
                code="backoff",
                message=f"The last attempt was lost; the next one is made after {not_before.isoformat()}.",
            )
        if supply.slots == 0:
            return WaitingFor(code="no_worker", message=f"No worker for {name} jobs is connected.")
        if project in self._full:
            return WaitingFor(
                code="quota",
                message=f"Project {project!r} already runs the {self._full[project]} jobs that its quota allows.",
            )
        if supply.free == 0:
            ahead = (position or RANKED_AT_MOST) - 1
            return WaitingFor(
                code="busy",
                message=f"All {supply.slots} slots for {name} jobs are busy and {ahead} jobs are ahead of this one.",
            )
        return WaitingFor(code="turn", message="A slot is free; the job is about to be sent.")
