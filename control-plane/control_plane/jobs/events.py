"""Appending to a job's events and reading them back."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.jobs.rows import JobEventRow, JobRow
from imts_shared.contracts.jobs import EventType, JobEvent

NewEvent = tuple[EventType, datetime, dict[str, Any]]


async def append(session: AsyncSession, job: JobRow, events: Iterable[NewEvent]) -> None:
    """Numbers the events and stores them. The job's row must be locked: the lock is what keeps `seq` whole."""
    rows: list[dict[str, Any]] = [
        {"job_id": job.id, "seq": seq, "type": str(kind), "at": at, "data": data}
        for seq, (kind, at, data) in enumerate(events, start=job.last_seq + 1)
    ]
    if rows:
        await session.execute(insert(JobEventRow), rows)
        job.last_seq = rows[-1]["seq"]


async def read(
    session: AsyncSession, job_id: UUID, after: int, limit: int, types: Sequence[EventType] = ()
) -> list[JobEvent]:
    query = (
        select(col(JobEventRow.seq), col(JobEventRow.type), col(JobEventRow.at), col(JobEventRow.data))
        .where(col(JobEventRow.job_id) == job_id, col(JobEventRow.seq) > after)
        .order_by(col(JobEventRow.seq))
        .limit(limit)
    )
    if types:
        query = query.where(col(JobEventRow.type).in_([str(t) for t in types]))
    return [
        JobEvent(seq=seq, type=EventType(kind), at=at, data=data)
        for seq, kind, at, data in (await session.execute(query)).all()
    ]
