"""What an inference worker says, and what it is told to look after."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.database import parse_id
from control_plane.deployments import events
from control_plane.deployments.idle import make_room, sleep_if_idle
from control_plane.deployments.leases import lease_end, lease_seconds, let_go, put_right
from control_plane.deployments.reports import take, take_adapters
from control_plane.deployments.rows import DeploymentRow, InferenceWorkerRow
from control_plane.deployments.settling import settle
from control_plane.deployments.wanted import wanted_by
from control_plane.hints import DEPLOYMENTS
from control_plane.jobs.transitions import Changes, database_now
from control_plane.settings import settings
from control_plane.tokens.sealing import Sealer
from imts_shared.contracts.deployments import DeploymentReason, DeploymentState
from imts_shared.contracts.serving import ReplicaReport, SyncAnswer, SyncRequest

BEAT_SECONDS = 1.0
IDLE_BEAT_SECONDS = 2.0
"""Of a worker that has nothing to look after."""


async def sync(session: AsyncSession, said: SyncRequest, changes: Changes) -> SyncAnswer:
    """Applies the reports, renews the leases and answers with all that the worker shall run, in one transaction."""
    last = await _note_worker(session, said)
    if said.batch >= last:
        await _apply(session, said, changes, repeated=said.batch == last, anew=last == 0)
    await put_right(session, changes)
    rules = settings()
    wanted = await wanted_by(session, said.worker_id, Sealer.of(rules))
    beat = BEAT_SECONDS if wanted or said.replicas else IDLE_BEAT_SECONDS
    return SyncAnswer(
        deployments=wanted,
        gone=await _gone(session, said.replicas),
        lease_seconds=lease_seconds(said.launcher),
        beat_seconds=min(beat, rules.lease_seconds / 5, rules.worker_gone_seconds / 3),
    )


async def _note_worker(session: AsyncSession, said: SyncRequest) -> int:
    """The last batch before this one in the worker's life. The row's lock puts two syncs of one worker into order: a
    late one, whose answer nobody waits for any more, changes nothing."""
    now = await database_now(session)
    before = await session.get(InferenceWorkerRow, said.worker_id, with_for_update=True, populate_existing=True)
    new_life = (
        before is None or (before.host, before.pid) != (said.host, said.pid) or (said.batch == 1 and before.batch > 1)
    )
    last = 0 if before is None or new_life else before.batch
    values = {
        "name": said.name,
        "host": said.host,
        "pid": said.pid,
        "version": said.version,
        "launcher": said.launcher,
        "engines": {str(engine): how for engine, how in said.engines.items()},
        "devices": [device.model_dump(mode="json", by_alias=False) for device in said.devices],
        "gpus_free": max(0, said.gpus_free),
        "memory_bytes": max(0, said.memory_bytes),
        "draining": said.draining,
        "batch": max(last, said.batch),
        "started_at": now if before is None or new_life else before.started_at,
        "seen_at": now,
    }
    statement = insert(InferenceWorkerRow).values(id=said.worker_id, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
    return last


async def _apply(session: AsyncSession, said: SyncRequest, changes: Changes, *, repeated: bool, anew: bool) -> None:
    """`anew`: it is the first that this life of the worker says."""
    reported: dict[UUID, list[ReplicaReport]] = defaultdict(list)
    for report in said.replicas:
        identity = parse_id(report.deployment_id)
        if identity is not None:
            reported[identity].append(report)
    now = await database_now(session)
    rows = await _own(session, said, list(reported), lease_end(now, said.launcher))
    hungry: list[DeploymentRow] = []
    for row in rows:
        if not repeated:
            await _take_words(session, row, said)
        reports = reported.get(row.id, [])
        if anew and not reports and row.ready_replicas > 0:
            told = {"text": "Its worker was started anew, and its engines start again."}
            await events.append(session, row, now, ("message", told))
        if await take(session, row, reports, now):
            changes.hints.add(DEPLOYMENTS)
            await settle(session, row, changes)
        if await take_adapters(session, row, reports, now):
            changes.hints.add(DEPLOYMENTS)
        await sleep_if_idle(session, row, now, changes)
        if not reports and (said.draining or not _wants(row)):
            await _release(session, row, changes)
        elif _wants(row) and any(_is_hungry(one) for one in reports):
            hungry.append(row)
    await session.flush()
    if hungry:
        await make_room(session, hungry[0], changes)


async def _own(session: AsyncSession, said: SyncRequest, reported: list[UUID], lease: datetime) -> list[DeploymentRow]:
    """The worker's deployments, locked, with those that nobody has and whose engines still run here: a worker that was
    not heard for a while gets them back without a new start."""
    adopted = and_(
        col(DeploymentRow.worker_id).is_(None),
        col(DeploymentRow.id).in_(reported),
        text("NOT deployments.stopped AND NOT deployments.asleep AND deployments.replicas > 0"),
    )
    mine = col(DeploymentRow.worker_id) == said.worker_id
    query = (
        select(DeploymentRow)
        .where(mine if said.draining else or_(mine, adopted))
        .order_by(col(DeploymentRow.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    rows = list((await session.execute(query)).scalars())
    for row in rows:
        row.worker_id, row.lease_until = said.worker_id, lease
        row.waiting_reason = row.waiting_message = None
    return rows


async def _gone(session: AsyncSession, reports: Sequence[ReplicaReport]) -> list[str]:
    if not reports:
        return []
    reported = {one.deployment_id for one in reports}
    known = {identity for text in reported if (identity := parse_id(text)) is not None}
    found = await session.execute(select(col(DeploymentRow.id)).where(col(DeploymentRow.id).in_(known)))
    return sorted(reported - {str(identity) for identity in found.scalars()})


async def _take_words(session: AsyncSession, row: DeploymentRow, said: SyncRequest) -> None:
    identity = str(row.id)
    await events.append_lines(session, row, [line for line in said.lines if line.deployment_id == identity])
    for message in said.messages:
        if message.deployment_id == identity:
            await events.append(session, row, message.at, ("message", {"text": message.text}))


def _wants(row: DeploymentRow) -> bool:
    given_up = row.state == str(DeploymentState.failed) and row.serving_revision is None
    return row.replicas > 0 and not row.stopped and not row.asleep and not given_up


def _is_hungry(report: ReplicaReport) -> bool:
    return report.state == DeploymentState.pending and report.reason == DeploymentReason.no_room


async def _release(session: AsyncSession, row: DeploymentRow, changes: Changes) -> None:
    let_go(row)
    await settle(session, row, changes)
