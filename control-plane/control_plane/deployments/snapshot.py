"""What gateways need to know, as one document with a version that is its content's own hash."""

import asyncio
import contextlib
import hashlib
import time
from collections import defaultdict
from uuid import UUID

import orjson
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.rows import KeyRow
from control_plane.database import Database
from control_plane.deployments.rows import AdapterRow, DeploymentRow, ReplicaRow
from control_plane.hints import DEPLOYMENTS, KEYS
from imts_shared.contracts.access import Role
from imts_shared.contracts.deployments import DeploymentState
from imts_shared.contracts.serving import KnownKey, ServedModel, Snapshot, Target

LOOK_SECONDS = 1.0
"""Hints may be lost, and keys expire without one."""

_GATE_STATES = {
    DeploymentState.pending: "starting",
    DeploymentState.starting: "starting",
    DeploymentState.ready: "starting",
    DeploymentState.degraded: "starting",
    DeploymentState.failed: "failed",
    DeploymentState.stopped: "stopped",
}
"""What a name without targets is called."""


async def read(session: AsyncSession) -> Snapshot:
    keys = await _keys(session)
    models = await _models(session)
    content = [[one.model_dump(mode="json") for one in part] for part in (keys, models)]
    version = hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
    return Snapshot(version=version, keys=keys, models=models)


async def _keys(session: AsyncSession) -> list[KnownKey]:
    good = text("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())")
    query = select(col(KeyRow.id), col(KeyRow.key_hash), col(KeyRow.role), col(KeyRow.project), col(KeyRow.expires_at))
    rows = (await session.execute(query.where(good).order_by(col(KeyRow.id)))).all()
    return [
        KnownKey(id=str(identity), sha256=digest.hex(), role=Role(role), project=project, expires_at=expires_at)
        for identity, digest, role, project, expires_at in rows
    ]


async def _models(session: AsyncSession) -> list[ServedModel]:
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


class Snapshots:
    """One reading serves every gateway that waits in this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest: Snapshot | None = None
        self._read_at = -1e9
        self._reading = asyncio.Lock()
        self._news = asyncio.Event()
        self._stale = True
        self._closed = False

    def hear(self, hint: str) -> None:
        if hint in (KEYS, DEPLOYMENTS):
            self._stale = True
            self._wake()

    def close(self) -> None:
        """Ends every waiting; gateways ask again."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def current(self) -> Snapshot:
        async with self._reading:
            if self._newest is None or self._stale or time.monotonic() - self._read_at >= LOOK_SECONDS:
                self._stale = False
                async with self._database.transaction() as session:
                    self._newest = await read(session)
                self._read_at = time.monotonic()
            return self._newest

    async def other_than(self, version: str | None, wait: float) -> Snapshot:
        """As soon as it is another one, or the same after so many seconds."""
        until = time.monotonic() + wait
        while True:
            news = self._news
            found = await self.current()
            left = until - time.monotonic()
            if found.version != version or left <= 0 or self._closed:
                return found
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), min(left, LOOK_SECONDS))
