"""Finding deployments: one by its id or by a name that it serves, many by filters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.caller import DEFAULT_PROJECT
from control_plane.database import parse_id
from control_plane.deployments import naming
from control_plane.deployments.rows import AdapterRow, DeploymentRow, NameRow, RevisionRow
from control_plane.deployments.settling import lock
from control_plane.problems import Refusal
from imts_shared.contracts.deployments import DeploymentState
from imts_shared.contracts.faults import nearest


async def get(session: AsyncSession, project: str | None, named: str) -> DeploymentRow:
    """By id, by name, or by the name of one of its adapters. An admin's name means the default project's first."""
    found = await _named(session, project, named)
    if not found:
        raise await _unknown(session, project, named)
    return await _row(session, found[0], named)


async def get_to_change(session: AsyncSession, project: str | None, named: str) -> DeploymentRow:
    """Locked. An adapter's name does not do: a base must not go because somebody meant the adapter."""
    found = await _named(session, project, named)
    if not found:
        raise await _unknown(session, project, named)
    if len(found) > 1:
        raise Refusal(
            409, "ambiguous_name", f"Several projects have a deployment {named!r}.", field="deployment",
            hint="Give its id; GET /api/deployments lists them.",
        )  # fmt: skip
    if found[0].adapter:
        owner = await _row(session, found[0], named)
        raise Refusal(
            409,
            "is_adapter",
            f"{named!r} is an adapter of deployment {owner.name!r}.",
            field="deployment",
            hint=f"Name {owner.name!r}, or take the adapter out: DELETE /api/deployments/{owner.name}/adapters/{named}",
        )
    row = await lock(session, found[0].deployment_id)
    if row is None:
        raise await _unknown(session, project, named)
    return row


async def _named(session: AsyncSession, project: str | None, named: str) -> list[NameRow]:
    """The names that match, an id's deployment under its own; the default project's first. A name may look like an
    id."""
    same = col(NameRow.name) == named
    identity = parse_id(named)
    if identity is not None:
        same = or_(same, and_(col(NameRow.deployment_id) == identity, col(NameRow.adapter).is_(False)))
    query = select(NameRow).where(same)
    if project is not None:
        query = query.where(col(NameRow.project) == project)
    rows = list((await session.execute(query)).scalars())
    return sorted(rows, key=lambda row: (row.project != DEFAULT_PROJECT, row.project))


async def _row(session: AsyncSession, name: NameRow, named: str) -> DeploymentRow:
    row = await session.get(DeploymentRow, name.deployment_id)
    if row is None:
        raise await _unknown(session, name.project, named)
    return row


async def _unknown(session: AsyncSession, project: str | None, named: str) -> Refusal:
    close = nearest(named, await naming.known(session, project))
    return Refusal(
        404,
        "unknown_deployment",
        f"There is no deployment {named!r} here.",
        field="deployment",
        hint=f"Did you mean {close!r}?" if close else "GET /api/deployments lists those that there are.",
    )


@dataclass
class Filters:
    project: str | None = None
    states: Sequence[DeploymentState] = ()
    model: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


async def find(session: AsyncSession, filters: Filters, before: UUID | None, limit: int) -> list[DeploymentRow]:
    query = select(DeploymentRow).order_by(col(DeploymentRow.id).desc()).limit(limit)
    if filters.project is not None:
        query = query.where(col(DeploymentRow.project) == filters.project)
    if filters.states:
        query = query.where(col(DeploymentRow.state).in_([str(state) for state in filters.states]))
    if filters.labels:
        query = query.where(col(DeploymentRow.labels).contains(filters.labels))
    if filters.model is not None:
        query = query.where(or_(*(_has_model(table, filters.model) for table in (RevisionRow, AdapterRow))))
    if before is not None:
        query = query.where(col(DeploymentRow.id) < before)
    return list((await session.execute(query)).scalars())


def _has_model(table: type[RevisionRow] | type[AdapterRow], named: str) -> ColumnElement[bool]:
    same = col(table.model) == named
    identity = parse_id(named)
    if identity is not None:
        same = or_(same, col(table.model_id) == identity)
    return exists().where(col(table.deployment_id) == col(DeploymentRow.id), same)
