"""Deployments and adapters as gateways know them: by their names, with the engines that answer."""

from collections import defaultdict
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments.rows import AdapterRow, DeploymentRow, ReplicaRow
from imts_shared.contracts.deployments import DeploymentState
from imts_shared.contracts.serving import ServedModel, Target

_GATE_STATES = {
    DeploymentState.pending: "starting",
    DeploymentState.starting: "starting",
    DeploymentState.ready: "starting",
    DeploymentState.degraded: "starting",
    DeploymentState.failed: "failed",
    DeploymentState.stopped: "stopped",
}
"""What a name without targets is called."""


async def models(session: AsyncSession) -> list[ServedModel]:
    rows = (await session.execute(select(DeploymentRow).order_by(col(DeploymentRow.id)))).scalars().all()
    replicas: dict[UUID, list[ReplicaRow]] = defaultdict(list)
    for replica in (await session.execute(select(ReplicaRow))).scalars():
        replicas[replica.deployment_id].append(replica)
    adapters: dict[UUID, list[AdapterRow]] = defaultdict(list)
    for adapter in (await session.execute(select(AdapterRow).order_by(col(AdapterRow.name)))).scalars():
        adapters[adapter.deployment_id].append(adapter)
    found = []
    for row in rows:
        there = _answering(row, replicas[row.id])
        found.append(_base(row, there))
        found += [_adapter(row, one, there) for one in adapters[row.id]]
    return found


def _answering(row: DeploymentRow, replicas: list[ReplicaRow]) -> list[ReplicaRow]:
    """Only what is ready, of the version that serves, wanted and not leaving."""
    if row.stopped or row.asleep:
        return []
    there = [
        one
        for one in replicas
        if one.state == str(DeploymentState.ready)
        and one.revision == row.serving_revision
        and one.number < row.replicas
        and not one.report.get("draining")
        and one.report.get("url")
    ]
    return sorted(there, key=lambda one: one.number)


def _target(row: DeploymentRow, replica: ReplicaRow) -> Target:
    said = replica.report
    process = f"{row.id}.{replica.revision}.{replica.number}.{said.get('restarts', 0)}.{said.get('startedAt') or ''}"
    return Target(url=said["url"], replica=process)


def _base(row: DeploymentRow, there: list[ReplicaRow]) -> ServedModel:
    return ServedModel.model_validate(
        {
            "name": row.name,
            "project": row.project,
            "deployment_id": str(row.id),
            "state": "ready" if there else _state(row),
            "message": None if there else row.message,
            "targets": [_target(row, one) for one in there],
            "created_at": row.created_at,
        }
    )


def _state(row: DeploymentRow) -> str:
    return "asleep" if row.asleep else _GATE_STATES[DeploymentState(row.state)]


def _adapter(row: DeploymentRow, adapter: AdapterRow, there: list[ReplicaRow]) -> ServedModel:
    """Only where it is loaded: an engine that has just come back may still lack it."""
    having = [one for one in there if _has(one, adapter)]
    state, message = _state(row), row.message
    if there:
        state = "failed" if adapter.state == "failed" else "starting"
        message = adapter.message
    return ServedModel.model_validate(
        {
            "name": adapter.name,
            "project": row.project,
            "deployment_id": str(row.id),
            "adapter": True,
            "state": "ready" if having else state,
            "message": None if having else message,
            "targets": [_target(row, one) for one in having],
            "created_at": adapter.added_at,
        }
    )


def _has(replica: ReplicaRow, adapter: AdapterRow) -> bool:
    return any(
        one["name"] == adapter.name and one["state"] == "loaded" and one.get("modelId") in (None, str(adapter.model_id))
        for one in replica.report.get("adapters") or ()
    )
