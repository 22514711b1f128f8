"""Adding up what gateways tell of usage: exactly, and in one order, so that two gateways do not wait in a circle."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

COUNTS = ("requests", "failed", "input_tokens", "cached_tokens", "output_tokens", "estimated_tokens")
_KEY = "day, key_id, project, model, upstream"
_ALL = (*COUNTS, "cost")

_ADD = f"""
INSERT INTO usage ({_KEY}, {", ".join(_ALL)})
SELECT {_KEY}, {", ".join(f"sum({name})" for name in _ALL)}
FROM json_to_recordset(CAST(:rows AS json)) AS told (
    day date, "keyId" text, project text, model text, upstream text, requests bigint, failed bigint,
    "inputTokens" bigint, "cachedTokens" bigint, "outputTokens" bigint, "estimatedTokens" bigint, cost numeric
), LATERAL (SELECT "keyId", "inputTokens", "cachedTokens", "outputTokens", "estimatedTokens")
    AS named (key_id, input_tokens, cached_tokens, output_tokens, estimated_tokens)
GROUP BY {_KEY} ORDER BY {_KEY}
ON CONFLICT ({_KEY}) DO UPDATE SET {", ".join(f"{name} = usage.{name} + excluded.{name}" for name in _ALL)}
"""


async def add(session: AsyncSession, rows: str) -> None:
    """`rows` is a JSON list of usage. Costs are added as the decimal numbers that they were written as."""
    await session.execute(text(_ADD), {"rows": rows})
