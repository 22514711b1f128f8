"""A job's metric points by step, thinned to what a plot can show."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

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
