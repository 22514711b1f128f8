"""A model as something that is loaded or not: the same deployments, asked for by the model's name."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.caller import DEFAULT_PROJECT
from control_plane.deployments import adapters, changing
from control_plane.deployments.answers import deployment_answer
from control_plane.deployments.choosing import Chosen, ChosenAdapter, choose
from control_plane.deployments.rows import AdapterRow, DeploymentRow, RevisionRow
from control_plane.deployments.settling import lock
from control_plane.jobs.transitions import Changes
from control_plane.models.finding import find_model
from control_plane.models.resolving import outside_the_registry
from control_plane.problems import Refusal
from imts_shared.contracts.deployments import DeploymentState, ModelStatus


@dataclass(frozen=True)
class Deployed:
    """Where a model is deployed: `adapter` is its name there if it is one."""

    row: DeploymentRow
    adapter: AdapterRow | None = None


async def project_of(session: AsyncSession, project: str | None, named: str) -> str:
    """The caller's own; an admin's is the model's."""
    if project is not None:
        return project
    if outside_the_registry(named, "model"):
        return DEFAULT_PROJECT
    found = await find_model(session, None, named)
    return found.project if found is not None else DEFAULT_PROJECT


async def deployed(session: AsyncSession, project: str, named: str) -> tuple[Chosen | ChosenAdapter, list[Deployed]]:
    """Where it is, what runs first, the oldest before the others."""
    found = await choose(session, project, named)
    if isinstance(found, ChosenAdapter):
        query = (
            select(DeploymentRow, AdapterRow)
            .join(AdapterRow, col(AdapterRow.deployment_id) == col(DeploymentRow.id))
            .where(col(DeploymentRow.project) == project, col(AdapterRow.model_id) == found.model_id)
        )
        there = [Deployed(row, adapter) for row, adapter in (await session.execute(query)).all()]
    else:
        plain = (
            select(DeploymentRow)
            .join(RevisionRow, col(RevisionRow.deployment_id) == col(DeploymentRow.id))
            .where(col(DeploymentRow.project) == project, col(RevisionRow.base) == found.base)
            .distinct()
        )
        there = [Deployed(row) for row in (await session.execute(plain)).scalars()]
    return found, sorted(there, key=lambda one: (_rest(one.row), one.row.id))


_ORDER = (
    DeploymentState.ready,
    DeploymentState.degraded,
    DeploymentState.starting,
    DeploymentState.pending,
    DeploymentState.stopped,
    DeploymentState.failed,
)


def _rest(row: DeploymentRow) -> int:
    return _ORDER.index(DeploymentState(row.state))


async def start_again(session: AsyncSession, there: list[Deployed], changes: Changes) -> DeploymentRow:
    """The first of them, running; it is there already, so nothing is made."""
    row = await _locked(session, there[0].row.id)
    await changing.start(session, row, changes)
    return row


async def unload(session: AsyncSession, project: str, named: str, changes: Changes) -> DeploymentRow:
    """Stops its deployments; an adapter leaves its base's engine, which goes on. All are locked first, in the order in
    which a worker's sync locks them, so that the two never wait for each other."""
    _, there = await deployed(session, project, named)
    if not there:
        raise Refusal(
            409, "model_not_loaded", f"No deployment of project {project!r} serves {named!r}.", field="model",
            hint=f"POST /api/models/{named}/load deploys it.",
        )  # fmt: skip
    rows = {identity: await _locked(session, identity) for identity in sorted(one.row.id for one in there)}
    for one in there:
        row = rows[one.row.id]
        if one.adapter is not None:
            await adapters.take_out(session, row, one.adapter.name, changes)
        elif not row.stopped:
            await changing.stop(session, row, changes)
    return rows[there[0].row.id]


async def _locked(session: AsyncSession, deployment_id: UUID) -> DeploymentRow:
    row = await lock(session, deployment_id)
    if row is None:
        raise Refusal(409, "conflict", "The deployment was deleted just now.", hint="Try again.")
    return row


async def status(session: AsyncSession, project: str, named: str) -> ModelStatus:
    found, there = await deployed(session, project, named)
    model_id = str(found.model_id) if found.model_id else None
    if not there:
        return ModelStatus(model=named, model_id=model_id, loaded=False)
    one = there[0]
    answers = one.row.ready_replicas > 0
    state, message = DeploymentState(one.row.state), one.row.message
    if one.adapter is not None and answers:
        answers = one.adapter.state == "loaded"
        state = {"loaded": state, "pending": DeploymentState.starting}.get(one.adapter.state, DeploymentState.failed)
        message = one.adapter.message
    return ModelStatus(
        model=named,
        model_id=model_id,
        loaded=answers,
        state=state,
        message=message,
        name=one.adapter.name if one.adapter is not None else one.row.name,
        deployment=await deployment_answer(session, one.row),
    )
