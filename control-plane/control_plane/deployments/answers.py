"""From a deployment's rows to what the world reads."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments.rows import AdapterRow, DeploymentRow, ReplicaRow, RevisionRow
from imts_shared.contracts.deployments import (
    DeployedAdapter,
    Deployment,
    DeploymentError,
    DeploymentMetrics,
    DeploymentReason,
    DeploymentState,
    Engine,
    Progress,
    Replica,
    ReplicaMetrics,
)

Row = TypeVar("Row", RevisionRow, AdapterRow, ReplicaRow)


def in_force(row: DeploymentRow, revisions: Sequence[RevisionRow]) -> RevisionRow:
    """The newest version, unless it was given up and another serves."""
    newest = next(one for one in revisions if one.number == row.revision)
    if newest.failure is None or row.serving_revision is None:
        return newest
    return next(one for one in revisions if one.number == row.serving_revision)


async def in_force_of(session: AsyncSession, row: DeploymentRow) -> RevisionRow:
    return in_force(row, (await _by_deployment(session, RevisionRow, [row.id]))[row.id])


async def _by_deployment(session: AsyncSession, table: type[Row], ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
    found: dict[UUID, list[Row]] = defaultdict(list)
    for one in (await session.execute(select(table).where(col(table.deployment_id).in_(ids)))).scalars():
        found[one.deployment_id].append(one)
    return found


async def deployment_answers(session: AsyncSession, rows: Sequence[DeploymentRow]) -> list[Deployment]:
    ids = [row.id for row in rows]
    revisions = await _by_deployment(session, RevisionRow, ids)
    adapters = await _by_deployment(session, AdapterRow, ids)
    replicas = await _by_deployment(session, ReplicaRow, ids)
    return [
        _answer(row, in_force(row, revisions[row.id]), adapters[row.id], replicas[row.id])
        for row in rows
        if revisions[row.id]
    ]


async def deployment_answer(session: AsyncSession, row: DeploymentRow) -> Deployment:
    return (await deployment_answers(session, [row]))[0]


def _answer(
    row: DeploymentRow, shown: RevisionRow, adapters: list[AdapterRow], replicas: list[ReplicaRow]
) -> Deployment:
    return Deployment(
        id=str(row.id),
        name=row.name,
        project=row.project,
        model=shown.model,
        model_id=str(shown.model_id) if shown.model_id else None,
        engine=Engine(shown.engine),
        engine_args=shown.engine_args,
        adapters=[adapter_answer(one) for one in sorted(adapters, key=lambda one: (one.added_at, one.name))],
        replicas=row.replicas,
        ready_replicas=row.ready_replicas,
        gpu=shown.gpu,
        port=shown.port,
        launcher=row.launcher,
        start_timeout_seconds=row.start_timeout_seconds,
        idle_seconds=row.idle_seconds,
        drain_seconds=row.drain_seconds,
        labels=row.labels,
        state=DeploymentState(row.state),
        reason=DeploymentReason(row.reason) if row.reason else None,
        message=row.message,
        error=DeploymentError.model_validate(row.error) if row.error else None,
        progress=Progress.model_validate(row.progress) if row.progress else None,
        revision=row.revision,
        serving_revision=row.serving_revision,
        restarts=sum(one.report.get("restarts") or 0 for one in replicas),
        instances=[_replica(one) for one in _in_order(replicas)],
        worker_id=row.worker_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        last_used_at=row.last_used_at,
    )


def adapter_answer(row: AdapterRow) -> DeployedAdapter:
    return DeployedAdapter(
        name=row.name,
        model=row.model,
        model_id=str(row.model_id),
        state=row.state,
        message=row.message,
        seconds=row.seconds,
    )


def _in_order(replicas: Sequence[ReplicaRow]) -> list[ReplicaRow]:
    return sorted(replicas, key=lambda one: (one.revision, one.number))


def _replica(row: ReplicaRow) -> Replica:
    said: dict[str, Any] = row.report
    return Replica.model_validate(said)


async def metrics_answer(session: AsyncSession, row: DeploymentRow) -> DeploymentMetrics:
    replicas = (await _by_deployment(session, ReplicaRow, [row.id]))[row.id]
    return DeploymentMetrics(
        replicas=[
            ReplicaMetrics(
                revision=one.revision, number=one.number, at=one.changed_at, values=one.report.get("metrics") or {}
            )
            for one in _in_order(replicas)
        ]
    )
