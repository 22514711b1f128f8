"""Making deployments: what is asked for is resolved and checked, then stored in one transaction."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.access.caller import Caller
from control_plane.database import new_id
from control_plane.deployments import adapters, events, naming, revisions
from control_plane.deployments.adapters import Asked
from control_plane.deployments.arguments import check_arguments
from control_plane.deployments.choosing import Chosen, ChosenAdapter, check_adapter_engine, check_engine, choose
from control_plane.deployments.leases import assign, places
from control_plane.deployments.rows import DeploymentRow, RevisionRow
from control_plane.deployments.settling import lock, settle
from control_plane.jobs.transitions import Changes, database_now
from control_plane.problems import Refusal, not_found
from imts_shared.contracts.deployments import DeploymentRequest, DeploymentState, Engine


@dataclass
class Plan:
    """A request whose names are resolved. `name` is None where the base's own will do, numbered if it must be."""

    request: DeploymentRequest
    project: str
    chosen: Chosen
    engine: Engine
    adapters: list[Asked]
    name: str | None
    tuned: Asked | None
    """The adapter that was asked for as the model."""


async def plan(session: AsyncSession, request: DeploymentRequest, project: str) -> Plan:
    if await session.scalar(text("SELECT 1 FROM projects WHERE name = :p"), {"p": project}) is None:
        raise not_found("project", project)
    found = await choose(session, project, request.model)
    asked = await adapters.choose_all(session, project, request.adapters)
    if isinstance(found, ChosenAdapter):
        if request.engine == Engine.llamacpp:
            check_adapter_engine(request.engine, "engine")
        chosen = await _base_of(session, project, found)
        tuned = Asked(found, request.name or found.name, "model")
        asked = [tuned, *(one for one in asked if one.name != tuned.name)]
        name = None
    else:
        chosen, tuned, name = found, None, request.name or found.name
    engine = check_engine(request.engine, chosen)
    adapters.check_fit(asked, engine, chosen.base, chosen.named)
    if name is not None and any(one.name == name for one in asked):
        raise Refusal(
            422, "name_twice", f"The deployment and one of its adapters shall both be called {name!r}.", field="name",
            hint='Give one of them another name: {"model": ..., "name": ...}.',
        )  # fmt: skip
    check_arguments(engine, request.engine_args)
    revisions.check_ports(request.port, request.replicas)
    await check_engine_there(session, engine)
    return Plan(request, project, chosen, engine, asked, name, tuned)


async def _base_of(session: AsyncSession, project: str, adapter: ChosenAdapter) -> Chosen:
    try:
        found = await choose(session, project, adapter.base_named)
    except Refusal as refusal:
        raise Refusal(
            409,
            "base_gone",
            f"The base {adapter.base_named!r} of the adapter {adapter.name!r} is not there.",
            field="model",
            hint=refusal.hint,
        ) from None
    if isinstance(found, ChosenAdapter):
        raise Refusal(422, "bad_adapter", f"The base of {adapter.name!r} is an adapter itself.", field="model")
    return found


async def check_engine_there(session: AsyncSession, engine: Engine) -> None:
    """Known only while a worker is there."""
    there = [place for place in (await places(session)).values() if not place.draining]
    if there and all(place.engines.get(engine, "missing") == "missing" for place in there):
        program = "llama-server of llama.cpp" if engine == Engine.llamacpp else "vLLM"
        raise Refusal(
            409,
            "engine_missing",
            f"No inference worker has the engine {engine}, or can install it.",
            field="engine",
            hint=f"Install {program} where a worker runs; it says at its start what it found.",
        )


async def join(
    session: AsyncSession, planned: Plan, changes: Changes, *, replace: bool = False
) -> DeploymentRow | None:
    """The running deployment of the base that has taken the adapter. One that is otherwise than the request says is no
    home."""
    if planned.tuned is None:
        return None
    for candidate in await adapters.home_of(session, planned.project, planned.tuned.adapter):
        row = await lock(session, candidate.id)
        if row is None or row.stopped or row.replicas == 0 or row.state == str(DeploymentState.failed):
            continue
        shown = await session.get(RevisionRow, (row.id, row.revision), populate_existing=True)
        if shown is None or not _agrees(planned, row, shown):
            continue
        for one in planned.adapters:
            await adapters.put(session, row, one, changes, replace=replace)
        return row
    return None


_OF_THE_WHOLE = ("replicas", "launcher", "start_timeout_seconds", "idle_seconds", "drain_seconds", "labels")


def _agrees(planned: Plan, row: DeploymentRow, shown: RevisionRow) -> bool:
    request = planned.request
    told = request.model_fields_set
    same_args = all(name in shown.engine_args and shown.engine_args[name] == value
                    for name, value in request.engine_args.items())  # fmt: skip
    return (
        shown.base == planned.chosen.base
        and same_args
        and request.gpu in (None, shown.gpu)
        and request.port in (None, shown.port)
        and all(getattr(row, name) == getattr(request, name) for name in _OF_THE_WHOLE if name in told)
    )


async def make(
    session: AsyncSession, planned: Plan, caller: Caller | None, changes: Changes, said: list[str]
) -> DeploymentRow:
    """A new deployment, its names, its first version and its adapters; `said` is what a check had to say."""
    request, now = planned.request, await database_now(session)
    row = DeploymentRow(
        id=new_id(),
        project=planned.project,
        name="",
        replicas=request.replicas,
        launcher=request.launcher,
        start_timeout_seconds=request.start_timeout_seconds,
        idle_seconds=request.idle_seconds,
        drain_seconds=request.drain_seconds,
        labels=request.labels,
        revision=1,
        state=str(DeploymentState.pending),
        created_at=now,
        created_by=caller.key_id if caller else None,
        updated_at=now,
        busy_at=now,
    )
    row.name = planned.name or await _free_name(session, planned)
    session.add(row)
    try:
        await session.flush()
        fields: dict[str, Any] = revisions.fields_of(planned.chosen, planned.engine)
        await revisions.first(
            session, row, engine_args=request.engine_args, gpu=request.gpu, port=request.port, **fields
        )
    except IntegrityError:
        raise Refusal(
            409, "model_gone", f"The model {planned.chosen.named!r} was deleted just now.", field="model"
        ) from None
    await naming.take(session, row.project, row.name, row.id, adapter=False)
    await events.append(session, row, now, ("state", {"state": row.state, "revision": 1}))
    await events.append(session, row, now, *[("message", {"text": one}) for one in said])
    for one in planned.adapters:
        await adapters.put(session, row, one, changes)
    await settle(session, row, changes)
    await assign(session, changes)
    return row


async def _free_name(session: AsyncSession, planned: Plan) -> str:
    """Nobody asked for the name of a base that an adapter brings along."""
    return await naming.free(session, planned.project, planned.chosen.name, {one.name for one in planned.adapters})


async def deploy(
    session: AsyncSession, planned: Plan, caller: Caller | None, changes: Changes, said: list[str]
) -> tuple[DeploymentRow, bool]:
    """The deployment, and whether it is a new one."""
    joined = await join(session, planned, changes)
    if joined is not None:
        return joined, False
    return await make(session, planned, caller, changes, said), True
