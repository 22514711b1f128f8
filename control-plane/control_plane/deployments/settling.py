"""The one place that moves a deployment: from what is wanted and reported to its state, its serving version, events.

Whoever settles holds the deployment's row lock, so that a report and a user's order come one after the other.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments import events
from control_plane.deployments.rows import DeploymentRow, ReplicaRow, RevisionRow
from control_plane.deployments.state import Derived, Failure, Seen, Serve, Standing, derive, rollout
from control_plane.hints import DEPLOYMENTS
from control_plane.jobs.transitions import Changes, database_now
from imts_shared.contracts.deployments import DeploymentReason, DeploymentState

PROGRESS_STEP = 10.0
"""Percent within a phase that are worth an event."""


async def replicas_of(session: AsyncSession, deployment_id: UUID) -> list[ReplicaRow]:
    query = select(ReplicaRow).where(col(ReplicaRow.deployment_id) == deployment_id)
    return list((await session.execute(query.order_by(col(ReplicaRow.revision), col(ReplicaRow.number)))).scalars())


async def revision_of(session: AsyncSession, deployment_id: UUID, number: int) -> RevisionRow:
    row = await session.get(RevisionRow, (deployment_id, number))
    assert row is not None, "a deployment's newest and serving versions are kept"
    return row


def seen(row: ReplicaRow) -> Seen:
    said = row.report
    return Seen(
        revision=row.revision,
        number=row.number,
        state=DeploymentState(row.state),
        reason=DeploymentReason(said["reason"]) if said.get("reason") else None,
        message=said.get("message"),
        hint=said.get("hint"),
        progress=said.get("progress"),
        draining=bool(said.get("draining")),
    )


def standing(row: DeploymentRow, newest: RevisionRow, replicas: list[ReplicaRow]) -> Standing:
    failure = None
    if newest.failure is not None:
        said = newest.failure
        failure = Failure(newest.number, DeploymentReason(said["reason"]), said["message"], said.get("hint"))
    waiting = DeploymentReason(row.waiting_reason) if row.waiting_reason else None
    return Standing(
        wanted=row.replicas,
        newest=row.revision,
        serving=row.serving_revision,
        failure=failure,
        stopped=row.stopped,
        asleep=row.asleep,
        owned=row.worker_id is not None,
        waiting=(waiting, row.waiting_message),
        replicas=[seen(one) for one in replicas],
    )


async def settle(session: AsyncSession, row: DeploymentRow, changes: Changes) -> None:
    """Brings the row to what follows from everything else, and tells of what changed.

    It is written once, when all of it fits together: the database's CHECKs refuse what lies between.
    """
    newest = await revision_of(session, row.id, row.revision)
    replicas = await replicas_of(session, row.id)
    decided = rollout(standing(row, newest, replicas))
    if isinstance(decided, Serve):
        await _serve(session, row, changes)
    elif isinstance(decided, Failure):
        await _give_up(session, row, newest, decided, changes)
    await _write(session, row, derive(standing(row, newest, replicas)), changes)


async def _serve(session: AsyncSession, row: DeploymentRow, changes: Changes) -> None:
    """Gateways send to the new version as soon as this commits; the old one is forgotten, and drained by its worker."""
    before, row.serving_revision = row.serving_revision, row.revision
    await session.execute(
        delete(RevisionRow).where(col(RevisionRow.deployment_id) == row.id, col(RevisionRow.number) < row.revision)
    )
    changes.hints.add(DEPLOYMENTS)
    if before is not None:
        said = f"Version {row.revision} takes the traffic; version {before} is drained."
        await events.append(session, row, await database_now(session), ("message", {"text": said}))


async def _give_up(
    session: AsyncSession, row: DeploymentRow, newest: RevisionRow, why: Failure, changes: Changes
) -> None:
    newest.failure = {"reason": str(why.reason), "message": why.message, "hint": why.hint}
    if row.serving_revision is not None:
        newest.model_id = None
        said = f"Version {newest.number} failed ({why.reason}): {why.message}"
        await events.append(session, row, await database_now(session), ("message", {"text": said}))
    changes.hints.add(DEPLOYMENTS)


async def _write(session: AsyncSession, row: DeploymentRow, now: Derived, changes: Changes) -> None:
    told: list[tuple[events.EventKind, dict[str, Any]]] = []
    if (row.state, row.reason) != (str(now.state), _text(now.reason)) or row.ready_replicas != now.ready:
        told.append(("state", _state_event(row, now)))
        changes.hints.add(DEPLOYMENTS)
    if now.progress is not None and _worth_telling(row.progress, now.progress):
        told.append(("progress", now.progress))
    at = await database_now(session)
    if now.state == DeploymentState.ready and row.state != str(DeploymentState.ready):
        row.busy_at = at
    values = {
        "state": str(now.state),
        "reason": _text(now.reason),
        "message": now.message,
        "error": now.error,
        "progress": now.progress,
        "ready_replicas": now.ready,
    }
    for name, value in values.items():
        if getattr(row, name) != value:
            setattr(row, name, value)
            row.updated_at = at
            changes.hints.add(DEPLOYMENTS)
    await events.append(session, row, at, *told)
    await session.flush()


def _state_event(row: DeploymentRow, now: Derived) -> dict[str, Any]:
    data: dict[str, Any] = {
        "state": str(now.state),
        "from": row.state,
        "reason": _text(now.reason),
        "message": now.message,
        "error": now.error,
        "readyReplicas": now.ready,
        "revision": row.revision,
    }
    return {name: value for name, value in data.items() if value is not None}


def _worth_telling(before: dict[str, Any] | None, now: dict[str, Any]) -> bool:
    if before is None or before.get("phase") != now.get("phase"):
        return True
    return (now.get("percent") or 0) - (before.get("percent") or 0) >= PROGRESS_STEP


def _text(value: object) -> str | None:
    return None if value is None else str(value)


async def lock(session: AsyncSession, deployment_id: UUID) -> DeploymentRow | None:
    query = select(DeploymentRow).where(col(DeploymentRow.id) == deployment_id).with_for_update()
    row: DeploymentRow | None = (
        await session.execute(query.execution_options(populate_existing=True))
    ).scalar_one_or_none()
    return row
