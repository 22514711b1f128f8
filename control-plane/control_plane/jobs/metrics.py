"""A job's metric points by step: stored once each, read thinned to what a plot can show."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import case, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.jobs.rows import JobMetricRow, JobRow
from control_plane.problems import Refusal
from imts_shared.contracts.internal import ReportedEvent
from imts_shared.contracts.jobs import MetricPoint, MetricSeries

_THINNED = """
SELECT step, at, values, total FROM (
    SELECT step, at, values, row_number() OVER (ORDER BY step) AS place, count(*) OVER () AS total
    FROM job_metrics WHERE job_id = :job AND (CAST(:names AS text[]) = '{}' OR values ?| CAST(:names AS text[]))
) points
WHERE total <= :most OR (place - 1) % CAST(ceil(total::numeric / :most) AS bigint) = 0 OR place = total
ORDER BY step
"""


async def series(session: AsyncSession, job_id: UUID, names: Sequence[str], most: int) -> MetricSeries:
    """Every n-th point, and always the last."""
    rows = (await session.execute(text(_THINNED), {"job": job_id, "names": list(names), "most": most})).all()
    points = []
    seen: dict[str, None] = {}
    for step, at, values, _ in rows:
        wanted = {k: v for k, v in values.items() if (not names or k in names) and isinstance(v, int | float | None)}
        seen.update(dict.fromkeys(wanted))
        points.append(MetricPoint(step=step, at=at, values=wanted))
    return MetricSeries(points=points, of=rows[0][3] if rows else 0, names=list(seen))


async def of_earlier_attempts(
    session: AsyncSession, job: JobRow, reported: list[ReportedEvent]
) -> dict[int, dict[str, Any]]:
    """What attempts before this one said of the same steps."""
    steps = {step for event in reported if isinstance(step := event.data.get("step"), int)}
    if job.attempt <= 1 or not steps:
        return {}
    query = select(col(JobMetricRow.step), col(JobMetricRow.values)).where(
        col(JobMetricRow.job_id) == job.id, col(JobMetricRow.step).in_(steps), col(JobMetricRow.attempt) < job.attempt
    )
    found = (await session.execute(query)).all()
    return {int(step): dict(values) for step, values in found}


def told_before(event: ReportedEvent, known: dict[int, dict[str, Any]]) -> bool:
    """An attempt that goes on from a checkpoint repeats the steps that came after it: its points replace the lost
    attempt's in the series, and whoever watches is told of each step once."""
    before = known.get(event.data.get("step", -1))
    return before is not None and all(name == "step" or name in before for name in event.data)


async def store(session: AsyncSession, job: JobRow, reported: list[ReportedEvent]) -> None:
    points: dict[int, dict[str, Any]] = {}
    for event in reported:
        step = event.data.get("step")
        if not isinstance(step, int):
            raise Refusal(422, "metric_without_step", "A metric event needs a whole `step`.", field="events")
        values = {k: v for k, v in event.data.items() if k != "step"}
        point = points.setdefault(step, {"job_id": job.id, "step": step, "attempt": job.attempt, "values": {}})
        point["at"] = event.at
        point["values"].update(values)
    if not points:
        return
    statement = upsert(JobMetricRow).values(list(points.values()))
    table = JobMetricRow.__table__  # type: ignore[attr-defined]
    same_attempt = table.c.attempt == statement.excluded.attempt
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["job_id", "step"],
            set_={
                "values": case(
                    (same_attempt, table.c["values"].op("||")(statement.excluded["values"])),
                    else_=statement.excluded["values"],
                ),
                "attempt": statement.excluded.attempt,
                "at": statement.excluded.at,
            },
        )
    )
