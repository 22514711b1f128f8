"""Sleep and waking: what nobody uses gives its room back, and the next request has it again."""

from datetime import datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments import events
from control_plane.deployments.rows import DeploymentRow
from control_plane.deployments.settling import settle
from control_plane.jobs.transitions import Changes, database_now
from imts_shared.contracts.deployments import DeploymentState

UNUSED_SECONDS = 10
"""What sleeps for another's sake must have been unused for so long."""
USED_WITHIN_SECONDS = 5
"""What the one that waited has to make use of the room before more is made."""

_LEAVING = text("""
SELECT 1 FROM deployments d WHERE d.worker_id = :worker AND (d.stopped OR d.asleep)
AND EXISTS (SELECT 1 FROM deployment_replicas r WHERE r.deployment_id = d.id) LIMIT 1
""")


def may_sleep(row: DeploymentRow) -> bool:
    """Not while a version comes up that somebody wants to see; one that was given up comes no more."""
    comes_up = row.serving_revision != row.revision and row.error is None
    return row.idle_seconds is not None and row.state == str(DeploymentState.ready) and not comes_up


async def sleep_if_idle(session: AsyncSession, row: DeploymentRow, now: datetime, changes: Changes) -> None:
    if may_sleep(row) and row.busy_at < now - timedelta(seconds=row.idle_seconds or 0):
        await _sleep(session, row, now, f"Nobody has used it for {row.idle_seconds} s.", changes)


async def make_room(session: AsyncSession, hungry: DeploymentRow, changes: Changes) -> None:
    """Puts the worker's least recently used idle deployment to sleep, one at a time: what it held is counted before
    another has to go. The caller holds the worker's deployments locked."""
    now = await database_now(session)
    if (await session.execute(_LEAVING, {"worker": hungry.worker_id})).first() is not None:
        hungry.room_made_at = now
    if hungry.room_made_at is not None and hungry.room_made_at > now - timedelta(seconds=USED_WITHIN_SECONDS):
        return
    query = (
        select(DeploymentRow)
        .where(
            col(DeploymentRow.worker_id) == hungry.worker_id,
            col(DeploymentRow.id) != hungry.id,
            col(DeploymentRow.idle_seconds).is_not(None),
            col(DeploymentRow.busy_at) < now - timedelta(seconds=UNUSED_SECONDS),
        )
        .order_by(col(DeploymentRow.busy_at))
    )
    for row in (await session.execute(query)).scalars():
        if may_sleep(row):
            hungry.room_made_at = now
            await _sleep(session, row, now, f"It made room for {hungry.name!r}.", changes)
            return


async def _sleep(session: AsyncSession, row: DeploymentRow, now: datetime, why: str, changes: Changes) -> None:
    row.asleep = True
    await events.append(session, row, now, ("message", {"text": f"{why} It sleeps until the next request."}))
    await settle(session, row, changes)


async def wake(session: AsyncSession, row: DeploymentRow, changes: Changes) -> None:
    """A request is waiting. One that was stopped by its user stays so."""
    row.busy_at = await database_now(session)
    if row.asleep:
        row.asleep = False
        await settle(session, row, changes)
