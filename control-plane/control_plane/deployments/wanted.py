"""What a worker shall run now."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments.rows import AdapterRow, DeploymentRow, RevisionRow
from control_plane.models.resolving import inputs_for
from control_plane.tokens.sealing import Sealer
from control_plane.tokens.service import hub_tokens
from imts_shared.contracts.deployments import Engine
from imts_shared.contracts.models import ModelInput
from imts_shared.contracts.serving import WantedAdapter, WantedDeployment, WantedModel, WantedRevision


async def wanted_by(session: AsyncSession, worker_id: str, sealer: Sealer) -> list[WantedDeployment]:
    query = select(DeploymentRow).where(col(DeploymentRow.worker_id) == worker_id).order_by(col(DeploymentRow.id))
    rows = list((await session.execute(query)).scalars())
    if not rows:
        return []
    ids = [row.id for row in rows]
    revisions: dict[UUID, list[RevisionRow]] = defaultdict(list)
    adapters: dict[UUID, list[AdapterRow]] = defaultdict(list)
    found = select(RevisionRow).where(col(RevisionRow.deployment_id).in_(ids)).order_by(col(RevisionRow.number))
    for revision in (await session.execute(found)).scalars():
        revisions[revision.deployment_id].append(revision)
    loaded = select(AdapterRow).where(col(AdapterRow.deployment_id).in_(ids)).order_by(col(AdapterRow.added_at))
    for adapter in (await session.execute(loaded)).scalars():
        adapters[adapter.deployment_id].append(adapter)
    models = await _models(session, revisions, adapters)
    secrets = {project: (await hub_tokens(session, project, sealer)).secrets for project in {r.project for r in rows}}
    return [
        WantedDeployment(
            id=str(row.id),
            name=row.name,
            project=row.project,
            replicas=0 if row.stopped or row.asleep else row.replicas,
            serving_revision=row.serving_revision,
            revisions=[_revision(row, one, models) for one in _to_run(row, revisions[row.id])],
            adapters=[
                WantedAdapter(name=one.name, model=WantedModel(named=one.model, registered=models.get(one.model_id)))
                for one in adapters[row.id]
            ],
            drain_seconds=row.drain_seconds,
            secrets=secrets[row.project],
        )
        for row in rows
    ]


def _to_run(row: DeploymentRow, revisions: Sequence[RevisionRow]) -> list[RevisionRow]:
    """The serving version, and the newest unless it was given up."""
    return [
        one
        for one in revisions
        if one.number == row.serving_revision or (one.number == row.revision and one.failure is None)
    ]


def _revision(row: DeploymentRow, one: RevisionRow, models: dict[UUID, ModelInput]) -> WantedRevision:
    registered = models.get(one.model_id) if one.model_id is not None else None
    return WantedRevision(
        number=one.number,
        model=WantedModel(named=one.model, registered=registered),
        engine=Engine(one.engine),
        engine_args=one.engine_args,
        gpu=one.gpu,
        port=one.port,
        start_timeout_seconds=row.start_timeout_seconds,
    )


async def _models(
    session: AsyncSession, revisions: dict[UUID, list[RevisionRow]], adapters: dict[UUID, list[AdapterRow]]
) -> dict[UUID, ModelInput]:
    named = {one.model_id: one.model for many in revisions.values() for one in many if one.model_id is not None}
    named |= {one.model_id: one.model for many in adapters.values() for one in many}
    inputs = await inputs_for(session, [(name, model_id) for model_id, name in named.items()])
    return {UUID(one.id): one for one in inputs}
