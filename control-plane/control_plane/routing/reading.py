"""Decisions found again, for people and for replay."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.problems import not_found
from control_plane.routing.rows import DecisionRow, FeedbackRow
from imts_shared.contracts.routes import DecisionLine, Feedback


@dataclass(frozen=True)
class Filters:
    project: str | None = None
    route: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def find(session: AsyncSession, filters: Filters, before: str | None, limit: int) -> list[DecisionLine]:
    """The newest first. A page begins behind the decision that `before` names."""
    query = select(DecisionRow).order_by(col(DecisionRow.at).desc(), col(DecisionRow.decision_id).desc()).limit(limit)
    for column, wanted in (
        (DecisionRow.project, filters.project),
        (DecisionRow.route, filters.route),
        (DecisionRow.model, filters.model),
    ):
        if wanted is not None:
            query = query.where(col(column) == wanted)
    if filters.since is not None:
        query = query.where(col(DecisionRow.at) >= filters.since)
    if filters.until is not None:
        query = query.where(col(DecisionRow.at) <= filters.until)
    if before is not None:
        last = await session.get(DecisionRow, before)
        if last is None:
            return []
        query = query.where(
            tuple_(col(DecisionRow.at), col(DecisionRow.decision_id)) < tuple_(last.at, last.decision_id)
        )
    return await _with_feedback(session, (await session.execute(query)).scalars().all())


async def get(session: AsyncSession, decision_id: str, project: str | None) -> DecisionLine:
    row = await session.get(DecisionRow, decision_id)
    if row is None or project not in {None, row.project}:
        raise not_found("decision", decision_id)
    [found] = await _with_feedback(session, [row])
    return found


async def _with_feedback(session: AsyncSession, rows: Sequence[DecisionRow]) -> list[DecisionLine]:
    query = select(FeedbackRow).where(col(FeedbackRow.decision_id).in_([row.decision_id for row in rows]))
    said: dict[str, list[Feedback]] = defaultdict(list)
    for one in (await session.execute(query.order_by(col(FeedbackRow.number)))).scalars():
        said[one.decision_id].append(Feedback.model_validate(one.model_dump()))
    return [DecisionLine.model_validate({**row.model_dump(), "feedback": said[row.decision_id]}) for row in rows]
