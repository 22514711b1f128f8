"""What is free on the workers, and what a job takes of one.

A worker without GPUs gives every job one slot. On one with GPUs a job takes as many GPUs as its `gpus` says (by default
one; 0: none) and as many slots, at least one and at most all there are. A job that names GPUs goes to a worker without
any only while no living worker of its kind has one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.settings import settings

_ASKED = """CASE jsonb_typeof(j.spec -> 'gpus')
    WHEN 'number' THEN least((j.spec ->> 'gpus')::numeric, 1024)::int ELSE 1 END"""
_OWNED = "jsonb_array_length(workers.devices)"
_HELD = "j.worker_id = workers.id AND j.state IN ('dispatched', 'running', 'stopping')"

SLOTS_TAKEN = f"""(
    SELECT coalesce(sum(CASE WHEN {_OWNED} = 0 THEN 1 ELSE least(workers.slots, greatest(1, {_ASKED})) END), 0)
    FROM jobs j WHERE {_HELD}
)"""
_GPUS_TAKEN = f"(SELECT coalesce(sum(least({_OWNED}, {_ASKED})), 0) FROM jobs j WHERE {_HELD})"

_ROOMS = f"""
SELECT id, queue, kinds, slots, {_OWNED}, slots - {SLOTS_TAKEN}, {_OWNED} - {_GPUS_TAKEN}, draining
FROM workers WHERE seen_at > clock_timestamp() - make_interval(secs => :gone) ORDER BY id
"""


@dataclass
class Room:
    """A worker that lives. One that drains has nothing free, but its GPUs are not forgotten while it is replaced."""

    id: str
    queue: str
    kinds: list[str]
    slots: int
    gpus: int
    free_slots: int
    free_gpus: int
    draining: bool

    def takes(self, asked: int | None) -> tuple[int, int]:
        """The slots and GPUs of this worker that such a job holds."""
        if self.gpus == 0:
            return 1, 0
        gpus = 1 if asked is None else asked
        return min(self.slots, max(1, gpus)), gpus

    def fits(self, asked: int | None) -> bool:
        slots, gpus = self.takes(asked)
        return not self.draining and slots <= self.free_slots and gpus <= self.free_gpus

    def take(self, asked: int | None) -> None:
        slots, gpus = self.takes(asked)
        self.free_slots -= slots
        self.free_gpus -= gpus

    @property
    def most(self) -> int:
        """The most GPUs that a job could get here now."""
        gpus = 0 if self.draining else max(0, self.free_gpus)
        return gpus if min(self.slots, gpus) <= self.free_slots else max(0, self.free_slots)


async def rooms(session: AsyncSession) -> list[Room]:
    rows = (await session.execute(text(_ROOMS), {"gone": settings().worker_gone_seconds})).all()
    return [
        Room(identity, queue, list(kinds), int(slots), int(gpus), int(free_slots), int(free_gpus), draining)
        for identity, queue, kinds, slots, gpus, free_slots, free_gpus, draining in rows
    ]


def free_slots(places: Iterable[Room], kept: Sequence[Room] = ()) -> int:
    return sum(max(0, room.free_slots) for room in places if not room.draining and room not in kept)


def owned(places: Iterable[Room]) -> int:
    """The most GPUs that one of these workers has."""
    return max((room.gpus for room in places), default=0)


def chosen(places: Sequence[Room], asked: int | None, kept: Sequence[Room] = ()) -> Room | None:
    """Where such a job goes now. `kept`: workers that are kept for another.

    What needs no GPU leaves the GPUs alone if it can; the others fill up what is used already, so that whole workers
    stay free for large jobs.
    """
    on_gpus_alone = bool(asked) and owned(places) > 0
    fitting = [r for r in places if r not in kept and r.fits(asked) and (r.gpus or not on_gpus_alone)]
    if asked == 0:
        return min(fitting, key=lambda r: (r.gpus > 0, -r.free_slots), default=None)
    return min(fitting, key=lambda r: (r.gpus == 0, r.free_gpus, -r.free_slots), default=None)


def askable(places: Sequence[Room], kept: Sequence[Room] = ()) -> list[int | None]:
    """What a job may ask for to find a place now."""
    most = max((room.most for room in places if room not in kept), default=0)
    return [asked for asked in (None, 0, *range(1, most + 1)) if chosen(places, asked, kept) is not None]
