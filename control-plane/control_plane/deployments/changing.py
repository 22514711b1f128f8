"""Changing deployments that are there: fields, replicas, stop and start, deletion."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments import adapters, finding, revisions
from control_plane.deployments.answers import in_force_of
from control_plane.deployments.arguments import check_arguments
from control_plane.deployments.choosing import (
    Chosen,
    ChosenAdapter,
    check_adapter_engine,
    check_same_base,
    choose,
    choose_adapter,
)
from control_plane.deployments.leases import assign
from control_plane.deployments.making import check_engine_there
from control_plane.deployments.rows import DeploymentRow, RevisionRow
from control_plane.deployments.settling import settle
from control_plane.hints import DEPLOYMENTS
from control_plane.jobs.transitions import Changes, database_now
from control_plane.problems import Refusal
from imts_shared.contracts.deployments import DeploymentChange, DeploymentState, Engine

_NULLABLE = frozenset({"gpu", "port", "idle_seconds"})
_IN_PLACE = ("replicas", "start_timeout_seconds", "idle_seconds", "drain_seconds", "labels")
_NEW_ENGINE = ("engine_args", "gpu", "port")


@dataclass(frozen=True)
class Next:
    """The version that the change leads to. `differs`: it is another one than the deployment has."""

    fields: dict[str, Any]
    differs: bool


def _given(change: DeploymentChange) -> dict[str, Any]:
    """Null lifts what may be without a value; elsewhere it says nothing."""
    named = {name: getattr(change, name) for name in change.model_fields_set}
    return {name: value for name, value in named.items() if value is not None or name in _NULLABLE}


async def next_version(session: AsyncSession, row: DeploymentRow, change: DeploymentChange) -> Next:
    given, shown = _given(change), await in_force_of(session, row)
    fields = {name: getattr(shown, name) for name in ("model", "model_id", "base", "engine", *_NEW_ENGINE)}
    before = dict(fields)
    fields |= {name: given[name] for name in _NEW_ENGINE if name in given}
    if "model" in given:
        chosen = await _chosen(session, row, given["model"])
        fields |= revisions.fields_of(chosen, chosen.engine)
    check_arguments(Engine(fields["engine"]), fields["engine_args"])
    return Next(fields, fields != before)


async def _chosen(session: AsyncSession, row: DeploymentRow, named: str) -> Chosen:
    chosen = await choose(session, row.project, named)
    if isinstance(chosen, ChosenAdapter):
        raise Refusal(
            422, "bad_adapter", f"{named!r} is an adapter: it is added, and does not replace the model.",
            field="model", hint=f"POST /api/deployments/{row.name}/adapters",
        )  # fmt: skip
    return chosen


async def change(session: AsyncSession, row: DeploymentRow, asked: DeploymentChange, changes: Changes) -> None:
    """In place what can be; what needs another engine is a new version beside the old one."""
    given = _given(asked)
    following = await next_version(session, row, asked)
    revisions.check_ports(following.fields["port"], given.get("replicas", row.replicas))
    wanted = given.get("adapters")
    chosen = await adapters.choose_all(session, row.project, wanted) if wanted is not None else None
    engine, base, served = Engine(following.fields["engine"]), following.fields["base"], following.fields["model"]
    if chosen is not None:
        adapters.check_fit(chosen, engine, base, served)
    elif following.differs:
        await _check_staying(session, row, engine, base, served)
    if following.differs:
        old = await in_force_of(session, row)
        await check_engine_there(session, engine)
        replicas = max(row.replicas, given.get("replicas", row.replicas))
        await revisions.check_beside(session, row, old, replicas, following.fields)
        await _add_version(session, row, following)
    if chosen is not None:
        await adapters.set_all(session, row, chosen, changes)
    for name in _IN_PLACE:
        if name in given:
            setattr(row, name, given[name])
    await _settle(session, row, changes)


async def _check_staying(session: AsyncSession, row: DeploymentRow, engine: Engine, base: str, served: str) -> None:
    for one in (await adapters.of(session, row)).values():
        adapter = await choose_adapter(session, row.project, str(one.model_id), "model")
        asked = adapters.Asked(adapter, one.name, "model")
        check_adapter_engine(engine, asked.field)
        check_same_base(adapter, base, served, asked.field)


async def _add_version(session: AsyncSession, row: DeploymentRow, following: Next) -> None:
    try:
        await revisions.add(session, row, **following.fields)
    except IntegrityError:
        raise Refusal(
            409, "model_gone", f"The model {following.fields['model']!r} was deleted just now.", field="model"
        ) from None


async def _settle(session: AsyncSession, row: DeploymentRow, changes: Changes) -> None:
    row.updated_at = await database_now(session)
    changes.hints.add(DEPLOYMENTS)
    await settle(session, row, changes)
    await assign(session, changes)


async def scale(session: AsyncSession, row: DeploymentRow, replicas: int, changes: Changes) -> None:
    shown = await in_force_of(session, row)
    revisions.check_ports(shown.port, replicas)
    row.replicas = replicas
    await _settle(session, row, changes)


async def stop(session: AsyncSession, row: DeploymentRow, changes: Changes) -> None:
    row.stopped, row.asleep = True, False
    await _settle(session, row, changes)


async def start(session: AsyncSession, row: DeploymentRow, changes: Changes) -> None:
    """What was stopped, sleeps or has failed. What runs already goes on as it is."""
    if row.state == str(DeploymentState.failed) and not row.stopped:
        await revisions.add_same(session, row, await in_force_of(session, row))
    elif row.state == str(DeploymentState.degraded) and row.error is not None:
        await revisions.add_same(session, row, await in_force_of(session, row), beside=True)
    row.stopped = row.asleep = False
    row.replicas = max(1, row.replicas)
    row.busy_at = await database_now(session)
    await _start_given_up(session, row)
    await _settle(session, row, changes)


async def _start_given_up(session: AsyncSession, row: DeploymentRow) -> None:
    """It may have been stopped after it had failed."""
    newest = await session.get(RevisionRow, (row.id, row.revision))
    if newest is not None and newest.failure is not None and row.serving_revision is None:
        await revisions.add_same(session, row, newest)


async def remove(session: AsyncSession, project: str | None, named: str, changes: Changes) -> None:
    """Its worker ends what it does not find in its next answer any more."""
    row = await finding.get_to_change(session, project, named)
    await session.execute(delete(DeploymentRow).where(col(DeploymentRow.id) == row.id))
    changes.hints.add(DEPLOYMENTS)
