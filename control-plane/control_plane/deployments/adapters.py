"""Adapters of a deployment: put in, taken out, and found a deployment of their base."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments import events, naming
from control_plane.deployments.answers import in_force_of
from control_plane.deployments.choosing import ChosenAdapter, check_adapter_engine, check_same_base, choose_adapter
from control_plane.deployments.rows import AdapterRow, DeploymentRow, RevisionRow
from control_plane.hints import DEPLOYMENTS
from control_plane.jobs.transitions import Changes, database_now
from control_plane.problems import Refusal
from imts_shared.contracts.deployments import AdapterRequest, DeploymentState, Engine
from imts_shared.contracts.faults import nearest

MOST_ADAPTERS = 64


@dataclass(frozen=True)
class Asked:
    """An adapter and the name that it shall be served under."""

    adapter: ChosenAdapter
    name: str
    field: str


async def choose_all(
    session: AsyncSession, project: str, requests: Sequence[str | AdapterRequest], field: str = "adapters"
) -> list[Asked]:
    found: list[Asked] = []
    for place, request in enumerate(requests):
        asked = AdapterRequest(model=request) if isinstance(request, str) else request
        where = f"{field}.{place}"
        adapter = await choose_adapter(session, project, asked.model, where)
        one = Asked(adapter, asked.name or adapter.name, where)
        if any(other.name == one.name for other in found):
            raise Refusal(
                422, "name_twice", f"Two adapters shall be called {one.name!r}.", field=where,
                hint='Give one of them another name: {"model": ..., "name": ...}.',
            )  # fmt: skip
        found.append(one)
    return found


def check_fit(asked: Sequence[Asked], engine: Engine, base: str, served: str) -> None:
    for one in asked:
        check_adapter_engine(engine, one.field)
        check_same_base(one.adapter, base, served, one.field)


async def of(session: AsyncSession, row: DeploymentRow) -> dict[str, AdapterRow]:
    query = select(AdapterRow).where(col(AdapterRow.deployment_id) == row.id)
    return {one.name: one for one in (await session.execute(query)).scalars()}


async def put(
    session: AsyncSession, row: DeploymentRow, asked: Asked, changes: Changes, *, replace: bool = False
) -> bool:
    """Whether it is new there. The deployment's row is locked. The same adapter under the same name is no fault."""
    there = await of(session, row)
    known = there.get(asked.name)
    now = await database_now(session)
    if known is not None:
        if known.model_id == asked.adapter.model_id:
            return False
        if not replace:
            raise Refusal(
                409, "name_taken", f"The deployment has another adapter {asked.name!r} already.", field="name",
                hint="Give another name, or take that one out first.",
            )  # fmt: skip
        known.model, known.model_id = asked.adapter.named, asked.adapter.model_id
        known.state, known.message, known.seconds = "pending", None, None
    else:
        if len(there) >= MOST_ADAPTERS:
            raise Refusal(
                409, "too_many_adapters", f"The deployment has {MOST_ADAPTERS} adapters already.",
                field="adapters", hint="Take out those that nobody calls any more.",
            )  # fmt: skip
        field = "name" if asked.field == "model" else asked.field
        await naming.take(session, row.project, asked.name, row.id, adapter=True, field=field)
        session.add(
            AdapterRow(
                deployment_id=row.id,
                name=asked.name,
                model=asked.adapter.named,
                model_id=asked.adapter.model_id,
                state="pending",
                added_at=now,
            )
        )
    await _flush(session, asked)
    await _tell(session, row, {"name": asked.name, "state": "pending", "model": asked.adapter.named}, changes)
    return True


async def _flush(session: AsyncSession, asked: Asked) -> None:
    try:
        await session.flush()
    except IntegrityError:
        raise Refusal(
            409, "model_gone", f"The adapter {asked.adapter.named!r} was deleted just now.", field=asked.field
        ) from None


async def add(
    session: AsyncSession,
    row: DeploymentRow,
    request: AdapterRequest,
    changes: Changes,
    *,
    replace: bool = False,
) -> bool:
    """Into a deployment that is there; its engine loads it without a new start."""
    adapter = await choose_adapter(session, row.project, request.model, "model")
    asked = Asked(adapter, request.name or adapter.name, "model")
    shown = await in_force_of(session, row)
    check_fit([asked], Engine(shown.engine), shown.base, shown.model)
    return await put(session, row, asked, changes, replace=replace)


async def take_out(session: AsyncSession, row: DeploymentRow, name: str, changes: Changes) -> None:
    there = await of(session, row)
    if name not in there:
        close = nearest(name, there)
        raise Refusal(
            404, "unknown_adapter", f"The deployment has no adapter {name!r}.", field="name",
            hint=f"Did you mean {close!r}?" if close else None,
        )  # fmt: skip
    await session.delete(there[name])
    await naming.give_back(session, row.project, [name])
    await session.flush()
    await _tell(session, row, {"name": name, "state": "removed"}, changes)


async def set_all(session: AsyncSession, row: DeploymentRow, asked: Sequence[Asked], changes: Changes) -> None:
    """These and no others."""
    there = await of(session, row)
    wanted = {one.name for one in asked}
    for name in there.keys() - wanted:
        await take_out(session, row, name, changes)
    for one in asked:
        await put(session, row, one, changes, replace=True)


async def _tell(session: AsyncSession, row: DeploymentRow, data: dict[str, Any], changes: Changes) -> None:
    now = await database_now(session)
    row.updated_at = now
    await events.append(session, row, now, ("adapter", data))
    await session.flush()
    changes.hints.add(DEPLOYMENTS)


async def home_of(session: AsyncSession, project: str, adapter: ChosenAdapter) -> list[DeploymentRow]:
    """The project's deployments that run the adapter's base and so can take it, oldest first."""
    query = (
        select(DeploymentRow)
        .join(RevisionRow, col(RevisionRow.deployment_id) == col(DeploymentRow.id))
        .where(
            col(DeploymentRow.project) == project,
            col(DeploymentRow.stopped).is_(False),
            col(DeploymentRow.replicas) > 0,
            col(DeploymentRow.state) != str(DeploymentState.failed),
            col(RevisionRow.number) == col(DeploymentRow.revision),
            col(RevisionRow.failure).is_(None),
            col(RevisionRow.engine) == str(Engine.vllm),
            col(RevisionRow.base) == adapter.base,
        )
        .order_by(col(DeploymentRow.id))
    )
    return list((await session.execute(query)).scalars())
