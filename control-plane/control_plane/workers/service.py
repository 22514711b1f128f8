"""Workers announce themselves by beats; whoever has not been heard for a while gets no work."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, case, delete, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from control_plane.hints import QUEUE
from control_plane.jobs.transitions import Changes
from control_plane.settings import settings
from control_plane.workers.room import SLOTS_TAKEN
from control_plane.workers.rows import PresenceRow, WorkerRow
from imts_shared.contracts.internal import Device, WorkerBeat
from imts_shared.contracts.jobs import JobKind
from imts_shared.contracts.workers import Worker

_NOW = text("clock_timestamp()")
API = "api"
API_BEAT_SECONDS = 1.0


async def beat(session: AsyncSession, worker_id: str, said: WorkerBeat, changes: Changes) -> None:
    values = {
        "name": said.name,
        "service": said.service,
        "kinds": [str(kind) for kind in said.kinds],
        "slots": said.slots,
        "queue": said.queue,
        "host": said.host,
        "pid": said.pid,
        "version": said.version,
        "devices": [device.model_dump(by_alias=False) for device in said.devices],
        "draining": said.draining,
    }
    statement = insert(WorkerRow).values(id=worker_id, started_at=_NOW, seen_at=_NOW, **values)
    written = statement.on_conflict_do_update(index_elements=["id"], set_={**values, "seen_at": _NOW})
    if (await session.execute(written.returning(*_before(worker_id)))).one() != (said.slots, said.draining, False):
        changes.hints.add(QUEUE)


def _before(worker_id: str) -> list[ScalarSelect[Any]]:
    """Slots, draining, gone, as a statement finds the worker's row before it writes it; None where there is none."""
    row = aliased(WorkerRow)
    gone = col(row.seen_at) < _long_ago()
    found: list[Any] = [col(row.slots), col(row.draining), gone]
    return [select(each).where(col(row.id) == worker_id).scalar_subquery() for each in found]


async def devices_for(session: AsyncSession, kind: JobKind) -> list[Device]:
    """The GPUs of the workers that take such jobs now."""
    query = select(col(WorkerRow.devices)).where(
        col(WorkerRow.kinds).contains([str(kind)]),
        col(WorkerRow.seen_at) > _long_ago(),
    )
    return [Device.model_validate(one) for devices in (await session.execute(query)).scalars() for one in devices]


async def leave(session: AsyncSession, worker_id: str) -> None:
    """A worker that shut down in good order; its attempts were given back by their own reports."""
    await session.execute(delete(WorkerRow).where(col(WorkerRow.id) == worker_id))


async def find(session: AsyncSession, after: str | None, limit: int) -> Sequence[Worker]:
    alive = col(WorkerRow.seen_at) > _long_ago()
    busy: ColumnElement[int] = literal_column(SLOTS_TAKEN)
    query = select(WorkerRow, busy, alive).order_by(col(WorkerRow.id)).limit(limit)
    if after is not None:
        query = query.where(col(WorkerRow.id) > after)
    return [_answer(row, int(held), bool(lives)) for row, held, lives in (await session.execute(query)).all()]


def _long_ago() -> ColumnElement[Any]:
    """Whoever was not heard since then is gone."""
    return func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, settings().worker_gone_seconds)


def _answer(row: WorkerRow, busy: int, alive: bool) -> Worker:
    return Worker(
        id=row.id,
        name=row.name,
        service=row.service,
        kinds=[JobKind(kind) for kind in row.kinds],
        slots=row.slots,
        busy=busy,
        host=row.host,
        pid=row.pid,
        version=row.version,
        devices=row.devices,
        alive=alive,
        draining=row.draining,
        started_at=row.started_at,
        seen_at=row.seen_at,
    )


async def note_presence(session: AsyncSession, name: str, *, starting: bool = False) -> None:
    """Says that this part is there. A break in it, or a start, begins a new `since`, from which leases count anew."""
    statement = insert(PresenceRow).values(name=name, since=_NOW, seen_at=_NOW)
    broken = text(f"presence.seen_at < clock_timestamp() - interval '{API_BEAT_SECONDS * 4} seconds'")
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["name"],
            set_={"since": _NOW if starting else case((broken, _NOW), else_=col(PresenceRow.since)), "seen_at": _NOW},
        )
    )
