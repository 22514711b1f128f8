"""Decisions as gateways tell them: each once, with its result when that is known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from imts_shared.contracts.routes import Result

_KEEP = """
WITH told AS (
    SELECT DISTINCT ON ("decisionId") * FROM ROWS FROM (json_to_recordset(CAST(:rows AS json)) AS (
        "decisionId" text, project text, route text, model text, policy text, reason text, features json, context json,
        candidates json, "keyId" text, asked text, result jsonb, at timestamptz
    )) WITH ORDINALITY
    ORDER BY "decisionId", result IS NULL, ordinality
), kept AS (
    INSERT INTO routing_decisions
        (decision_id, gateway, project, route, model, policy, reason, features, context, candidates, key_id, asked,
        result, at)
    SELECT "decisionId", :gateway, project, route, model, policy, reason, features, context, candidates, "keyId", asked,
        result, at
    FROM told ORDER BY "decisionId"
    ON CONFLICT (decision_id) DO UPDATE SET result = excluded.result, asked = excluded.asked
    WHERE routing_decisions.result IS NULL AND excluded.result IS NOT NULL
        AND routing_decisions.project = excluded.project
    RETURNING decision_id, result IS NOT NULL AS ended
)
SELECT coalesce(array_agg(decision_id), '{}') FROM kept WHERE ended
"""
"""One that is told again brings the result that it lacked, and nothing else."""

_GIVE_RESULTS = """
UPDATE routing_decisions d SET result = told.result
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS told (decision_id text, result jsonb)
WHERE d.decision_id = told.decision_id AND d.result IS NULL
RETURNING d.decision_id
"""

_KNOWN = """
SELECT decision_id, project, route, coalesce(result ->> 'model', model), features, context
FROM routing_decisions WHERE decision_id = ANY(:ids)
"""


@dataclass(frozen=True)
class Known:
    """What a lesson says of its decision. `model` is the one that answered, where that was another than was chosen:
    what people say is said of its answer."""

    decision_id: str
    project: str
    route: str
    model: str
    features: dict[str, Any]
    context: list[float]


def as_json(rows: Sequence[dict[str, Any]]) -> str:
    """Whole tables travel as one value: hundreds of rows cost one statement."""
    return orjson.dumps(rows).decode()


def result_json(result: Result | None) -> dict[str, Any] | None:
    return None if result is None else result.model_dump(mode="json")


async def keep(session: AsyncSession, gateway: str, rows: str) -> list[str]:
    """`rows` is a JSON list of decisions. One that was told before stays as it was told, and takes the result that it
    lacked. Answers those whose results were not known before."""
    kept: list[str] | None = await session.scalar(text(_KEEP), {"gateway": gateway, "rows": rows})
    return kept or []


async def give_results(session: AsyncSession, results: dict[str, Result]) -> set[str]:
    """Answers which decisions had none."""
    if not results:
        return set()
    rows = [{"decision_id": one, "result": result_json(results[one])} for one in sorted(results)]
    return set((await session.execute(text(_GIVE_RESULTS), {"rows": as_json(rows)})).scalars())


async def known(session: AsyncSession, ids: Iterable[str]) -> dict[str, Known]:
    wanted = list(set(ids))
    if not wanted:
        return {}
    return {row[0]: Known(*row) for row in (await session.execute(text(_KNOWN), {"ids": wanted})).all()}
