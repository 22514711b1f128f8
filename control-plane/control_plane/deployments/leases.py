"""Which worker looks after which deployment: given one at a time, renewed by its syncs, taken back when it is silent.

Two workers that sync at the same moment must never both be given one deployment, nor the room of one worker be promised
twice: whoever assigns holds one lock of the database, and waits for no row while it does.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from loguru import logger
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.database import Database
from control_plane.deployments import events
from control_plane.deployments.placing import GIB, Need, Nowhere, Place, choose_place
from control_plane.deployments.rows import DeploymentRow, InferenceWorkerRow, ReplicaRow, RevisionRow
from control_plane.deployments.settling import settle
from control_plane.hints import Hints
from control_plane.jobs.transitions import Changes, database_now
from control_plane.settings import settings
from control_plane.workers.service import API
from imts_shared.contracts.deployments import Engine

_ASSIGNING = text("SELECT pg_advisory_xact_lock(6002001)")

_UNPLACED = """
SELECT d.id FROM deployments d JOIN deployment_revisions r ON r.deployment_id = d.id AND r.number = d.revision
WHERE d.worker_id IS NULL AND NOT d.stopped AND NOT d.asleep AND d.replicas > 0
  AND (d.serving_revision IS NOT NULL OR r.failure IS NULL)
"""

_SILENT = """
SELECT d.id FROM deployments d, presence p
WHERE d.worker_id IS NOT NULL AND d.lease_until < clock_timestamp()
  AND p.name = :api AND p.seen_at > clock_timestamp() - interval '3 seconds'
  AND p.since < clock_timestamp() - make_interval(secs => :lease)
"""
"""A worker could only be heard while an api was there, as with attempts of jobs."""

AMISS = f"(EXISTS ({_SILENT}) OR EXISTS ({_UNPLACED}))"

_HELD = text("""
SELECT d.worker_id, d.id, d.replicas, r.gpu, coalesce(m.bytes, b.bytes, 0),
       NOT d.stopped AND NOT d.asleep AND d.replicas > 0, d.idle_seconds IS NOT NULL AND d.state = 'ready',
       (SELECT coalesce(jsonb_agg(s.report), '[]') FROM deployment_replicas s WHERE s.deployment_id = d.id)
FROM deployments d
JOIN deployment_revisions r ON r.deployment_id = d.id AND r.number = d.revision
LEFT JOIN models m ON m.id = r.model_id LEFT JOIN models b ON b.id = m.base_model_id AND m.kind = 'adapter'
WHERE d.worker_id IS NOT NULL
""")


CLUSTER_LEASE_SECONDS = 300.0
"""Engines in a cluster run on while their worker's pod is made anew, perhaps on another node: to give their deployments
to another meanwhile would start them twice, and their replicas would be forgotten though they answer."""


def lease_seconds(launcher: str) -> float:
    seconds = settings().lease_seconds
    return max(seconds, CLUSTER_LEASE_SECONDS) if launcher == "kubernetes" else seconds


def lease_end(now: Any, launcher: str) -> Any:
    return now + timedelta(seconds=lease_seconds(launcher))


def needed_memory(model_bytes: int) -> int:
    """Weights and something for the cache; the worker reckons better."""
    return int(model_bytes * 1.2) + GIB if model_bytes else 0


async def places(session: AsyncSession) -> dict[str, Place]:
    """The workers that live, without what they hold and what is promised to their deployments."""
    alive = text("seen_at > clock_timestamp() - make_interval(secs => :gone)")
    query = select(InferenceWorkerRow).where(alive).execution_options(populate_existing=True)
    rows = (await session.execute(query, {"gone": settings().worker_gone_seconds})).scalars()
    found = {
        row.id: Place(
            row.id, row.launcher, row.engines, len(row.devices), row.gpus_free, row.memory_bytes, row.draining
        )
        for row in rows
    }
    for worker, _, replicas, gpu, size, wanted, sleeper, reports in (await session.execute(_HELD)).all():
        place = found.get(worker)
        if place is None:
            continue
        place.deployments += 1
        place.sleepers += sleeper
        need = Need(Engine.vllm, replicas if wanted else 0, gpu, needed_memory(size))
        held = sum(len(one.get("gpus") or ()) for one in reports)
        place.free_gpus -= max(0, need.gpus_at(place.gpus) * need.replicas - held)
        reported = sum(one.get("memoryBytes") or 0 for one in reports)
        place.memory_left -= reported or need.memory_bytes * need.replicas
    return found


async def assign(session: AsyncSession, changes: Changes) -> None:
    """Gives what has no worker to the best one, or notes why there is none. The last thing a transaction does."""
    await session.flush()
    if (await session.execute(text(f"{_UNPLACED} LIMIT 1"))).first() is None:
        return
    await session.execute(_ASSIGNING)
    ids = list((await session.execute(text(f"{_UNPLACED} ORDER BY d.id FOR UPDATE OF d SKIP LOCKED"))).scalars())
    there = await places(session)
    for row in await _rows(session, ids):
        found = choose_place(list(there.values()), await need_of(session, row))
        if isinstance(found, Nowhere):
            row.waiting_reason, row.waiting_message = str(found.reason), found.message
        else:
            found.give(await need_of(session, row))
            row.waiting_reason = row.waiting_message = None
            row.worker_id = found.id
            row.lease_until = lease_end(await database_now(session), found.launcher)
        await settle(session, row, changes)


async def _rows(session: AsyncSession, ids: Iterable[Any]) -> list[DeploymentRow]:
    query = select(DeploymentRow).where(col(DeploymentRow.id).in_(list(ids))).order_by(col(DeploymentRow.id))
    return list((await session.execute(query.execution_options(populate_existing=True))).scalars())


async def need_of(session: AsyncSession, row: DeploymentRow) -> Need:
    revision = await session.get(RevisionRow, (row.id, row.revision))
    assert revision is not None
    size = 0
    if revision.model_id is not None:
        asked = text("SELECT bytes FROM models WHERE id = :id")
        size = (await session.execute(asked, {"id": revision.model_id})).scalar_one_or_none() or 0
    return Need(Engine(revision.engine), row.replicas, revision.gpu, needed_memory(size), row.launcher)


def let_go(row: DeploymentRow) -> None:
    row.worker_id = row.lease_until = None


async def release_silent(session: AsyncSession, changes: Changes) -> int:
    """Takes deployments from workers that were not heard for a whole lease."""
    locked = text(f"{_SILENT} ORDER BY d.id FOR UPDATE OF d SKIP LOCKED")
    ids = list((await session.execute(locked, _limits())).scalars())
    for row in await _rows(session, ids):
        worker = await session.get(InferenceWorkerRow, row.worker_id)
        seconds = lease_seconds(worker.launcher if worker is not None else "process")
        said = f"Worker {row.worker_id} was not heard for {seconds:g} s."
        logger.bind(deployment=str(row.id), worker=row.worker_id).warning("deployment's worker is silent")
        let_go(row)
        row.waiting_reason, row.waiting_message = "no_worker", said
        await session.execute(delete(ReplicaRow).where(col(ReplicaRow.deployment_id) == row.id))
        await events.append(session, row, await database_now(session), ("message", {"text": said}))
        await settle(session, row, changes)
    return len(ids)


async def put_right(session: AsyncSession, changes: Changes) -> None:
    """Who looks after what: mostly nothing is amiss, and one question says so. The last thing a transaction does."""
    await session.flush()
    if await session.scalar(text(f"SELECT {AMISS}"), _limits()):
        await release_silent(session, changes)
        await assign(session, changes)


async def look_after(database: Database, hints: Hints) -> None:
    """The watcher's part: it sees a lease run out, and a worker come, where no other worker speaks."""
    changes = Changes()
    async with database.transaction() as session:
        await release_silent(session, changes)
        await assign(session, changes)
    changes.send(hints)


def _limits() -> dict[str, Any]:
    return {"api": API, "lease": settings().lease_seconds}
