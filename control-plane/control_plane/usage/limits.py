"""Limits of keys and projects, and what of them is spent."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.rows import KeyRow, ProjectRow, limits_of
from control_plane.database import parse_id
from control_plane.jobs.transitions import database_now
from control_plane.problems import not_found
from control_plane.routing.rows import RouteRow
from control_plane.usage.periods import start
from imts_shared.contracts.limits import Limits, LimitsAnswer, Period, Spent
from imts_shared.contracts.routes import RouteSettings
from imts_shared.contracts.usage import SpentScope


def _spent_by(column: str) -> str:
    return f"""
    SELECT s.name, u.requests, u.tokens, u.money
    FROM unnest(CAST(:names AS text[]), CAST(:days AS date[])) AS s (name, day)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(requests), 0) AS requests, coalesce(sum(input_tokens + output_tokens), 0) AS tokens,
               coalesce(sum(cost), 0) AS money
        FROM usage WHERE usage.{column} = s.name AND usage.day >= s.day
    ) u
    """


_BY_KEY = _spent_by("key_id")
_BY_PROJECT = _spent_by("project")


async def _spent(
    session: AsyncSession, query: str, asked: Sequence[tuple[str, Period]], now: datetime
) -> dict[str, Spent]:
    days = [start(period, now).date() for _, period in asked]
    found = await session.execute(text(query), {"names": [name for name, _ in asked], "days": days})
    periods = dict(asked)
    return {
        name: Spent(
            period=periods[name],
            since=start(periods[name], now),
            requests=int(requests),
            tokens=int(tokens),
            money=float(money),
        )
        for name, requests, tokens, money in found.all()
    }


async def key_row(session: AsyncSession, key_id: str, *, lock: bool = False) -> KeyRow:
    identity = parse_id(key_id)
    row = await session.get(KeyRow, identity, with_for_update=lock) if identity else None
    if row is None:
        raise not_found("key", key_id)
    return row


async def project_row(session: AsyncSession, name: str, *, lock: bool = False) -> ProjectRow:
    row = await session.get(ProjectRow, name, with_for_update=lock)
    if row is None:
        raise not_found("project", name)
    return row


def put(row: KeyRow | ProjectRow, limits: Limits) -> None:
    row.limits = limits.model_dump(mode="json")


async def limits_answer(session: AsyncSession, row: KeyRow | ProjectRow) -> LimitsAnswer:
    limits = limits_of(row) or Limits()
    name, query = (str(row.id), _BY_KEY) if isinstance(row, KeyRow) else (row.name, _BY_PROJECT)
    found = await _spent(session, query, [(name, limits.budget_period)], await database_now(session))
    return LimitsAnswer(limits=limits, spent=found[name])


async def spent_scopes(session: AsyncSession) -> list[SpentScope]:
    """What every key, project and route that has a budget has spent in its running period."""
    now = await database_now(session)
    good = text("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())")
    keys = select(col(KeyRow.id), col(KeyRow.limits)).where(_budgeted(KeyRow), good)
    projects = select(col(ProjectRow.name), col(ProjectRow.limits)).where(_budgeted(ProjectRow))
    scopes = []
    for rows, query, kind in ((keys, _BY_KEY, "key"), (projects, _BY_PROJECT, "project")):
        found = (await session.execute(rows)).all()
        asked = [(str(name), Limits.model_validate(limits).budget_period) for name, limits in found]
        scopes += [
            SpentScope(scope=f"{kind}:{name}", period_start=spent.since, tokens=spent.tokens, money=spent.money)
            for name, spent in (await _spent(session, query, asked, now)).items()
        ]
    return scopes + await _spent_on_routes(session, now)


_BY_ROUTE = """
SELECT s.project, s.route, coalesce(sum(CAST(d.result ->> 'cost' AS float)), 0) AS money
FROM unnest(CAST(:projects AS text[]), CAST(:routes AS text[]), CAST(:starts AS timestamptz[]))
    AS s (project, route, at)
LEFT JOIN routing_decisions d ON d.project = s.project AND d.route = s.route AND d.at >= s.at
GROUP BY s.project, s.route
"""


async def _spent_on_routes(session: AsyncSession, now: datetime) -> list[SpentScope]:
    """What the answers cost that a route with a budget has chosen."""
    found = (await session.execute(select(RouteRow))).scalars().all()
    settings = {(row.project, row.name): RouteSettings.model_validate(row.settings) for row in found}
    starts = {which: start(one.budget_period, now) for which, one in settings.items() if one.budget}
    if not starts:
        return []
    asked = {
        "projects": [project for project, _ in starts],
        "routes": [route for _, route in starts],
        "starts": list(starts.values()),
    }
    return [
        SpentScope(scope=f"route:{project}/{route}", period_start=starts[project, route], tokens=0, money=float(money))
        for project, route, money in (await session.execute(text(_BY_ROUTE), asked)).all()
    ]


def _budgeted(table: type[KeyRow] | type[ProjectRow]) -> ColumnElement[bool]:
    limits: Any = col(table.limits)
    return or_(*(limits[name].astext.is_not(None) for name in ("tokenBudget", "moneyBudget")))
