"""A job's log: chunks of lines, young ones in the table, sealed ones in storage."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.jobs.rows import JobLogRow, JobRow
from imts_shared.contracts.internal import ReportedLine
from imts_shared.contracts.jobs import EventType, LogLine
from imts_shared.storage import Storage

SEAL_BYTES = 256 * 1024
"""Young chunks of a job that reach this size become one file."""


async def append(
    session: AsyncSession, job: JobRow, lines: list[ReportedLine]
) -> tuple[EventType, datetime, dict[str, Any]]:
    """Stores the lines as one chunk and answers with the event that points at them. The job's row must be locked."""
    first = job.log_lines + 1
    body = b"".join(orjson.dumps({"at": line.at, "stream": line.stream, "text": line.text}) + b"\n" for line in lines)
    job.log_lines += len(lines)
    row = {"job_id": job.id, "first_line": first, "lines": len(lines), "attempt": job.attempt}
    await session.execute(insert(JobLogRow), [{**row, "size": len(body), "body": body}])
    last = lines[-1]
    return (
        EventType.log,
        last.at,
        {"firstLine": first, "count": len(lines), "text": last.text[:500]},
    )


async def read(
    session: AsyncSession, storage: Storage, job_id: UUID, after: int, limit: int, attempt: int | None = None
) -> list[LogLine]:
    """The lines that follow line number `after`."""
    found: list[LogLine] = []
    query = (
        select(JobLogRow)
        .where(col(JobLogRow.job_id) == job_id, col(JobLogRow.first_line) + col(JobLogRow.lines) > after + 1)
        .order_by(col(JobLogRow.first_line))
    )
    if attempt is not None:
        query = query.where(col(JobLogRow.attempt) == attempt)
    chunks = await session.stream_scalars(query.execution_options(yield_per=20))
    async for chunk in chunks:
        body = chunk.body if chunk.body is not None else await asyncio.to_thread(storage.get_bytes, str(chunk.key))
        for number, raw in enumerate(body.splitlines(), start=chunk.first_line):
            if number > after:
                found.append(LogLine(line=number, **orjson.loads(raw)))
                if len(found) == limit:
                    await chunks.close()
                    return found
    return found


async def jobs_to_seal(session: AsyncSession, most: int) -> list[UUID]:
    """Jobs with enough young text for a file of its own, and jobs that have ended."""
    rows = await session.execute(
        text(
            "SELECT l.job_id FROM job_logs l JOIN jobs j ON j.id = l.job_id WHERE l.body IS NOT NULL"
            " GROUP BY l.job_id, j.ended_at"
            " HAVING sum(l.size) >= :size OR j.ended_at < clock_timestamp() - interval '60 seconds' LIMIT :most"
        ),
        {"size": SEAL_BYTES, "most": most},
    )
    return list(rows.scalars())


async def seal(session: AsyncSession, storage: Storage, job_id: UUID) -> int:
    """Puts the young chunks of each attempt into one file and lets one row name it. Answers the chunks sealed.

    The file is written before the transaction commits and named by its first line, so that a crash between the two
    leaves a file which the next sealing writes over.
    """
    rows = (
        (
            await session.execute(
                select(JobLogRow)
                .where(col(JobLogRow.job_id) == job_id, col(JobLogRow.body).is_not(None))
                .order_by(col(JobLogRow.first_line))
                .with_for_update(skip_locked=True)
            )
        )
        .scalars()
        .all()
    )
    for run in _runs(list(rows)):
        first = run[0]
        body = b"".join(chunk.body or b"" for chunk in run)
        key = f"jobs/{job_id}/logs/{first.first_line:012d}.jsonl"
        await asyncio.to_thread(storage.put_bytes, key, body)
        await session.execute(
            delete(JobLogRow).where(
                col(JobLogRow.job_id) == job_id,
                col(JobLogRow.first_line).in_([chunk.first_line for chunk in run[1:]]),
            )
        )
        first.lines = sum(chunk.lines for chunk in run)
        first.size = len(body)
        first.body = None
        first.key = key
    await session.flush()
    return len(rows)


def _runs(rows: list[JobLogRow]) -> list[list[JobLogRow]]:
    """Neighbouring chunks of one attempt."""
    runs: list[list[JobLogRow]] = []
    for row in rows:
        last = runs[-1][-1] if runs else None
        if last is not None and last.attempt == row.attempt and last.first_line + last.lines == row.first_line:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs
