"""What was said or noticed of decisions. It is kept with its decision, and each makes a lesson."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import parse_id
from control_plane.problems import Refusal, not_found
from control_plane.routing import decisions, lessons
from control_plane.routing.decisions import as_json, result_json
from control_plane.routing.lessons import Draft
from imts_shared.contracts.routes import Feedback, Lesson

_KEEP = """
INSERT INTO routing_feedback (decision_id, signal, rating, quality, weight, label, comment, key_id, result, at)
SELECT decision_id, signal, rating, quality, weight, label, comment, key_id, result, at
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS told (
    place int, decision_id text, signal text, rating int, quality float, weight float, label text,
    comment text, key_id text, result jsonb, at timestamptz
)
ORDER BY place
ON CONFLICT DO NOTHING
RETURNING decision_id, key_id, rating IS NOT NULL
"""
"""A key's second rating of a decision conflicts with its first."""


def quality_of(feedback: Feedback) -> float | None:
    return feedback.quality if feedback.rating is None else (feedback.rating - 1) / 4


async def keep(session: AsyncSession, told: Sequence[Feedback]) -> tuple[list[Draft], list[str]]:
    """Answers the lessons to write, and the decisions that nobody knows: feedback on those is not kept, and neither is
    a second rating by the same key."""
    known = await decisions.known(session, (one.decision_id for one in told))
    kept = [one for one in told if one.decision_id in known]
    unknown = sorted({one.decision_id for one in told} - known.keys())
    if not kept:
        return [], unknown
    rows = [
        {
            "place": place,
            "decision_id": one.decision_id,
            "signal": one.signal,
            "rating": one.rating,
            "quality": quality_of(one),
            "weight": one.weight,
            "label": one.label,
            "comment": one.comment,
            "key_id": one.key_id,
            "result": result_json(one.result),
            "at": one.at,
        }
        for place, one in enumerate(kept)
    ]
    found = (await session.execute(text(_KEEP), {"rows": as_json(rows)})).all()
    rated = {(decision_id, key_id) for decision_id, key_id, is_rating in found if is_rating}
    kept = _counted(kept, rated)
    results = {one.decision_id: one.result for one in reversed(kept) if one.result is not None}
    news = await decisions.give_results(session, results)
    drafts = []
    for one in kept:
        result = one.result if one.decision_id in news else None
        if one.result is not None:
            news.discard(one.decision_id)
        of = known[one.decision_id]
        drafts.append(Draft(of, one.at, quality_of(one), one.weight, result, one.label, one.key_id))
    return drafts, unknown


def _counted(told: Sequence[Feedback], rated: set[tuple[str, str | None]]) -> list[Feedback]:
    """Without ratings that are not among those `rated` now, each of which is one."""
    counted = []
    for one in told:
        if one.rating is not None and one.key_id is not None:
            if (one.decision_id, one.key_id) not in rated:
                continue
            rated.discard((one.decision_id, one.key_id))
        counted.append(one)
    return counted


async def take(session: AsyncSession, gateway: str, told: Feedback) -> Lesson:
    """On a decision of another gateway. Another project's key finds no decision here."""
    found = (await decisions.known(session, [told.decision_id])).get(told.decision_id)
    if found is not None and told.project not in {None, found.project}:
        found = None
    if found is None or await _project_of(session, told.key_id) not in {None, found.project}:
        raise not_found("decision", told.decision_id)
    drafts, _ = await keep(session, [told])
    if not drafts:
        detail = "This key has rated the decision already: a rating counts once."
        raise Refusal(409, "already_rated", detail, field="decisionId")
    [lesson] = await lessons.write(session, gateway, drafts)
    return lesson


async def _project_of(session: AsyncSession, key_id: str | None) -> str | None:
    identity: UUID | None = parse_id(key_id) if key_id is not None else None
    project: str | None = await session.scalar(text("SELECT project FROM api_keys WHERE id = :id"), {"id": identity})
    return project
