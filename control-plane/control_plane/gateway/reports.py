"""What gateways tell, applied once: a part of a gateway's life is numbered, and the last number is known here."""

from dataclasses import dataclass

from loguru import logger
from prometheus_client import Counter
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import Database
from control_plane.gateway.parts import Part
from control_plane.gateway.sifting import Sieve, cannot_be_kept
from control_plane.routing import decisions, feedback, lessons
from control_plane.usage import counting, request_log
from imts_shared.contracts.usage import ReportAnswer

LEFT_OUT = Counter("imts_report_items_left_out_total", "What gateways told and could not be kept.", ["kind"])

_TAKE_TURN = """
INSERT INTO gateway_lives (gateway, number, at) VALUES (:gateway, :number, clock_timestamp())
ON CONFLICT (gateway) DO UPDATE SET number = excluded.number, at = excluded.at
WHERE gateway_lives.number < excluded.number
RETURNING number
"""


@dataclass(frozen=True)
class Applied:
    answer: ReportAnswer
    taught: bool
    """There are lessons that other gateways wait for."""


async def apply(database: Database, part: Part) -> Applied:
    """All at once; where Postgres refuses something of it, all anew without what it refuses."""
    left_out = part.left_out.copy()
    try:
        async with database.transaction() as session:
            applied = await _apply(session, part, Sieve(session, whole=True))
    except DBAPIError as error:
        if not cannot_be_kept(error):
            raise
        async with database.transaction() as session:
            sieve = Sieve(session, whole=False)
            applied = await _apply(session, part, sieve)
            left_out += sieve.left_out
    for (kind, why), count in left_out.items():
        logger.bind(gateway=part.gateway, part=part.number, kind=kind, why=why, count=count).warning(
            "items of a report left out"
        )
        LEFT_OUT.labels(kind).inc(count)
    return Applied(applied.answer.model_copy(update={"left_out": left_out.total()}), applied.taught)


async def _apply(session: AsyncSession, part: Part, sieve: Sieve) -> Applied:
    """The same part sent twice at once waits here for its first. Numbers grow, and may leave some out: a part that was
    lost with a disk must not keep those behind it from being told."""
    which = {"gateway": part.gateway, "number": part.number}
    if await session.scalar(text(_TAKE_TURN), which) is None:
        last = await session.scalar(text("SELECT number FROM gateway_lives WHERE gateway = :gateway"), which)
        return Applied(ReportAnswer(number=last or part.number), taught=False)
    ended = [
        identity
        for kept in await sieve.rows(part, "decisions", lambda rows: decisions.keep(session, part.gateway, rows))
        for identity in kept
    ]
    said = await sieve.items("feedback", part.feedback, lambda told: feedback.keep(session, told))
    await sieve.rows(part, "requests", lambda rows: request_log.keep(session, rows))
    await sieve.rows(part, "used", lambda rows: counting.add(session, rows))
    drafts = [draft for kept, _ in said for draft in kept]
    unknown = sorted({identity for _, missed in said for identity in missed})
    await lessons.write_results(session, part.gateway, ended)
    await lessons.write(session, part.gateway, drafts)
    return Applied(ReportAnswer(number=part.number, unknown_decisions=unknown), taught=bool(ended or drafts))
