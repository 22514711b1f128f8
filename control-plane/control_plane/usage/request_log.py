"""Logged requests, as a project wants them kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, exists, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer
from sqlmodel import col

from control_plane.routing.rows import FeedbackRow
from control_plane.usage.rows import LoggedRequestRow
from imts_shared.contracts.usage import LoggedRequest

COLUMNS = (
    "request_id, at, project, key_id, model, asked, upstream, status, seconds, input_tokens, output_tokens,"
    " decision_id, request, answer"
)

_KEEP = f"""
INSERT INTO request_log ({COLUMNS})
SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS told (
    "requestId" text, at timestamptz, project text, "keyId" text, model text, asked text, upstream text, status int,
    seconds float, "inputTokens" bigint, "outputTokens" bigint, "decisionId" text, request json, answer json
)
"""


async def keep(session: AsyncSession, rows: str) -> None:
    """`rows` is a JSON list of logged requests."""
    await session.execute(text(_KEEP), {"rows": rows})


@dataclass(frozen=True)
class Filters:
    project: str | None = None
    model: str | None = None
    asked: str | None = None
    key: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def _filtered(filters: Filters) -> Select[Any]:
    query = select(LoggedRequestRow)
    for column, wanted in (
        (LoggedRequestRow.project, filters.project),
        (LoggedRequestRow.model, filters.model),
        (LoggedRequestRow.asked, filters.asked),
        (LoggedRequestRow.key_id, filters.key),
    ):
        if wanted is not None:
            query = query.where(col(column) == wanted)
    if filters.since is not None:
        query = query.where(col(LoggedRequestRow.at) >= filters.since)
    if filters.until is not None:
        query = query.where(col(LoggedRequestRow.at) <= filters.until)
    return query


async def find(
    session: AsyncSession, filters: Filters, before: int, limit: int, *, content: bool
) -> Sequence[LoggedRequestRow]:
    """The newest first."""
    query = _filtered(filters).order_by(col(LoggedRequestRow.number).desc()).limit(limit)
    if before:
        query = query.where(col(LoggedRequestRow.number) < before)
    if not content:
        left_out: Any = (LoggedRequestRow.request, LoggedRequestRow.answer)
        query = query.options(*(defer(column, raiseload=True) for column in left_out))
    found: Sequence[LoggedRequestRow] = (await session.execute(query)).scalars().all()
    return found


def logged_answer(row: LoggedRequestRow, *, content: bool) -> LoggedRequest:
    names = set(LoggedRequest.model_fields) - (set() if content else {"request", "answer"})
    return LoggedRequest.model_validate({name: getattr(row, name) for name in names})


async def conversations(
    session: AsyncSession, filters: Filters, min_rating: int | None, after: int, limit: int
) -> Sequence[LoggedRequestRow]:
    """Requests that were kept in full and answered, the oldest first."""
    query = _filtered(filters).where(
        col(LoggedRequestRow.number) > after,
        col(LoggedRequestRow.status) == 200,
        col(LoggedRequestRow.request).is_not(None),
        col(LoggedRequestRow.answer).is_not(None),
    )
    if min_rating is not None:
        query = query.where(
            exists().where(
                col(FeedbackRow.decision_id) == col(LoggedRequestRow.decision_id), col(FeedbackRow.rating) >= min_rating
            )
        )
    query = query.order_by(col(LoggedRequestRow.number)).limit(limit)
    found: Sequence[LoggedRequestRow] = (await session.execute(query)).scalars().all()
    return found
