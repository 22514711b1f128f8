"""A deployment's events and its engines' lines: appended under the deployment's row lock, the newest kept."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments.rows import DeploymentEventRow, DeploymentLineRow, DeploymentRow
from imts_shared.contracts.deployments import DeploymentEvent, DeploymentLine
from imts_shared.contracts.serving import ReportedDeploymentLine

EventKind = Literal["state", "progress", "adapter", "message"]
KEPT_EVENTS = 2_000
KEPT_LINES = 5_000


async def append(
    session: AsyncSession, row: DeploymentRow, at: datetime, *events: tuple[EventKind, dict[str, Any]]
) -> None:
    if not events:
        return
    first = row.last_seq + 1
    rows = [
        {"deployment_id": row.id, "seq": seq, "type": kind, "at": at, "data": data}
        for seq, (kind, data) in enumerate(events, first)
    ]
    await session.execute(insert(DeploymentEventRow), rows)
    row.last_seq += len(rows)
    await session.execute(
        delete(DeploymentEventRow).where(
            col(DeploymentEventRow.deployment_id) == row.id,
            col(DeploymentEventRow.seq) <= row.last_seq - KEPT_EVENTS,
        )
    )


async def read(
    session: AsyncSession, deployment_id: UUID, after: int, limit: int, types: Sequence[str] = ()
) -> list[DeploymentEvent]:
    query = (
        select(DeploymentEventRow)
        .where(col(DeploymentEventRow.deployment_id) == deployment_id, col(DeploymentEventRow.seq) > after)
        .order_by(col(DeploymentEventRow.seq))
        .limit(limit)
    )
    if types:
        query = query.where(col(DeploymentEventRow.type).in_(list(types)))
    rows = (await session.execute(query)).scalars()
    return [DeploymentEvent(seq=row.seq, type=row.type, at=row.at, data=row.data) for row in rows]


async def append_lines(session: AsyncSession, row: DeploymentRow, lines: Iterable[ReportedDeploymentLine]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "deployment_id": row.id,
            "seq": seq,
            "at": line.at,
            "revision": line.revision,
            "replica": line.replica,
            "text": line.text,
        }
        for seq, line in enumerate(lines, row.last_line + 1)
    ]
    if not rows:
        return
    row.last_line = rows[-1]["seq"]
    await session.execute(insert(DeploymentLineRow), rows[-KEPT_LINES:])
    await session.execute(
        delete(DeploymentLineRow).where(
            col(DeploymentLineRow.deployment_id) == row.id,
            col(DeploymentLineRow.seq) <= row.last_line - KEPT_LINES,
        )
    )


async def read_lines(
    session: AsyncSession, deployment_id: UUID, after: int, limit: int, revision: int | None, replica: int | None
) -> list[DeploymentLine]:
    query = (
        select(DeploymentLineRow)
        .where(col(DeploymentLineRow.deployment_id) == deployment_id, col(DeploymentLineRow.seq) > after)
        .order_by(col(DeploymentLineRow.seq))
        .limit(limit)
    )
    if revision is not None:
        query = query.where(col(DeploymentLineRow.revision) == revision)
    if replica is not None:
        query = query.where(col(DeploymentLineRow.replica) == replica)
    rows = (await session.execute(query)).scalars()
    return [
        DeploymentLine(seq=row.seq, at=row.at, revision=row.revision, replica=row.replica, text=row.text)
        for row in rows
    ]
