"""Lessons: what gateways learn from each other, in one order, each once.

A reader asks for those after the newest number it has, so a lower number must never become visible after a higher one.
Sequences do not promise that: a transaction may take its number early and commit late. Therefore numbers are handed
out under a lock that is held until the commit; it is the last thing that a transaction takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.routing.decisions import Known, as_json, result_json
from imts_shared.contracts.routes import AUTO, Lesson, Lessons, Result

NEWEST = 2_000
"""So many of each route are enough for a gateway that starts."""
_NUMBERS = 0x494D_5402
_COLUMNS = (
    "number, gateway, project, route, model, decision_id, features, context, quality, weight, result, label, "
    "key_id, asked, at"
)

_WRITE = """
INSERT INTO routing_lessons
    (gateway, project, route, model, decision_id, features, context, quality, weight, result, label, key_id, at)
SELECT :gateway, project, route, model, decision_id, features, context, quality, weight, result, label, key_id, at
FROM json_to_recordset(CAST(:rows AS json)) AS told (
    place int, project text, route text, model text, decision_id text, features json, context json, quality float,
    weight float, result jsonb, label text, key_id text, at timestamptz
)
ORDER BY place
RETURNING number
"""

_OF_RESULTS = """
INSERT INTO routing_lessons
    (gateway, project, route, model, decision_id, features, context, result, key_id, asked, at)
SELECT :gateway, d.project, d.route, learned.model, d.decision_id, d.features, d.context, learned.result, d.key_id,
    d.asked, d.at
FROM routing_decisions d CROSS JOIN LATERAL (
    SELECT 1 AS place, d.model, d.result WHERE d.result ->> 'model' IS NULL
    UNION ALL
    SELECT 1, d.model, '{"failed": true}' WHERE d.result ->> 'model' IS NOT NULL
    UNION ALL
    SELECT 2, d.result ->> 'model', d.result || '{"failed": false, "model": null}'
    WHERE d.result ->> 'model' IS NOT NULL
) learned
WHERE d.decision_id = ANY(:ids) ORDER BY d.at, d.decision_id, learned.place
"""
"""Where another model answered, the chosen one has failed and the other has this result."""

_AFTER = f"""
SELECT {_COLUMNS} FROM routing_lessons
WHERE number > :after AND number <= :newest AND gateway <> :gateway ORDER BY number LIMIT :limit
"""

_OF_EACH_ROUTE = f"""
WITH there AS (SELECT project, name AS route FROM routes UNION SELECT name, '{AUTO}' FROM projects)
SELECT found.* FROM there CROSS JOIN LATERAL (
    SELECT {_COLUMNS} FROM routing_lessons l
    WHERE l.project = there.project AND l.route = there.route AND number <= :newest ORDER BY number DESC LIMIT {NEWEST}
) found WHERE number > :after ORDER BY number LIMIT :limit
"""
"""Of routes that there still are: along the index, as many lookups as routes, however many lessons there are."""


@dataclass(frozen=True)
class Draft:
    """A lesson that has no number yet."""

    of: Known
    at: datetime
    quality: float | None = None
    weight: float = 1.0
    result: Result | None = None
    label: str | None = None
    key_id: str | None = None


async def write(session: AsyncSession, gateway: str, drafts: Sequence[Draft]) -> list[Lesson]:
    """What is said of decisions. Nothing that may wait for another transaction may follow in this one."""
    if not drafts:
        return []
    rows: list[dict[str, Any]] = [
        {
            "place": place,
            "project": one.of.project,
            "route": one.of.route,
            "model": one.of.model,
            "decision_id": one.of.decision_id,
            "features": one.of.features,
            "context": one.of.context,
            "quality": one.quality,
            "weight": one.weight,
            "result": result_json(one.result),
            "label": one.label,
            "key_id": one.key_id,
            "at": one.at,
        }
        for place, one in enumerate(drafts)
    ]
    await _hold_numbers(session)
    numbers = (await session.execute(text(_WRITE), {"gateway": gateway, "rows": as_json(rows)})).scalars().all()
    return [
        Lesson(
            number=number,
            gateway=gateway,
            project=one.of.project,
            route=one.of.route,
            model=one.of.model,
            decision_id=one.of.decision_id,
            features=one.of.features,
            context=one.of.context,
            quality=one.quality,
            weight=one.weight,
            result=one.result,
            label=one.label,
            key_id=one.key_id,
            at=one.at,
        )
        for number, one in zip(sorted(numbers), drafts, strict=True)
    ]


async def write_results(session: AsyncSession, gateway: str, ids: Sequence[str]) -> None:
    """What came of these decisions. Like `write`, the last thing that a transaction does."""
    if ids:
        await _hold_numbers(session)
        await session.execute(text(_OF_RESULTS), {"gateway": gateway, "ids": ids})


async def _hold_numbers(session: AsyncSession) -> None:
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _NUMBERS})


async def after(session: AsyncSession, number: int, gateway: str, limit: int) -> Lessons:
    """Those of others. `number` of the answer passes over one's own, and goes back where the database did."""
    newest = await _newest(session)
    if newest <= number:
        return Lessons(items=[], number=newest, more=False)
    asked = {"after": number, "newest": newest, "gateway": gateway, "limit": limit}
    return _page(await _read(session, _AFTER, asked), limit, newest)


async def for_a_start(session: AsyncSession, number: int, limit: int) -> Lessons:
    """Among the newest of each route, one's own too: a gateway that starts knows nothing."""
    newest = await _newest(session)
    asked = {"after": number, "newest": newest, "limit": limit}
    return _page(await _read(session, _OF_EACH_ROUTE, asked), limit, newest)


def _page(items: list[Lesson], limit: int, newest: int) -> Lessons:
    full = len(items) == limit
    return Lessons(items=items, number=items[-1].number if full else newest, more=full)


async def _newest(session: AsyncSession) -> int:
    return int(await session.scalar(text("SELECT coalesce(max(number), 0) FROM routing_lessons")) or 0)


async def _read(session: AsyncSession, query: str, asked: dict[str, Any]) -> list[Lesson]:
    found = await session.execute(text(query), asked)
    return [Lesson.model_validate(dict(row)) for row in found.mappings()]
