"""The one place that moves a job from state to state.

A move, its event and the webhook deliveries that tell of it are written in one transaction, under the row's lock.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.database import parse_id
from control_plane.hints import DELIVERIES, MOVED, QUEUE, Hints, job_hint
from control_plane.jobs import events
from control_plane.jobs.lifecycle import (
    FINAL_STATES,
    HELD_STATES,
    Happening,
    Move,
    Refuse,
    Standing,
    Stay,
    decide,
)
from control_plane.jobs.rows import JobRow
from control_plane.problems import Refusal, not_found
from control_plane.settings import settings
from imts_shared.contracts.jobs import EventType, JobState, Reason


@dataclass
class Ended:
    """What the attempt's end says beside its reason."""

    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


@dataclass
class Changes:
    """What a transaction changed, to be hinted at after its commit."""

    hints: set[str] = field(default_factory=set)

    def send(self, sender: Hints) -> None:
        if self.hints:
            sender.send(*self.hints)


async def database_now(session: AsyncSession) -> datetime:
    """Postgres's clock, as it stands now and not when the transaction began (a lock may have been waited for)."""
    now: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return now


async def lock_job(session: AsyncSession, job_id: str | UUID, project: str | None = None) -> JobRow:
    """Locks the job's row; another project's job is as unknown as one that never was."""
    identity = job_id if isinstance(job_id, UUID) else parse_id(job_id)
    row: JobRow | None = None
    if identity is not None:
        query = select(JobRow).where(col(JobRow.id) == identity).with_for_update()
        if project is not None:
            query = query.where(col(JobRow.project) == project)
        row = (await session.execute(query)).scalar_one_or_none()
    if row is None:
        raise not_found("job", str(job_id))
    return row


def standing(job: JobRow) -> Standing:
    reason = Reason(job.reason) if job.reason else None
    return Standing(JobState(job.state), reason, job.tries, job.max_attempts)


async def apply(
    session: AsyncSession,
    job: JobRow,
    happening: Happening,
    changes: Changes,
    *,
    reason: Reason | None = None,
    ended: Ended | None = None,
    note: dict[str, Any] | None = None,
) -> bool:
    """Moves the locked job as the lifecycle decides; False when it stays; Refusal 409 when it cannot be."""
    decision = decide(standing(job), happening, reason)
    if isinstance(decision, Refuse):
        raise Refusal(409, decision.code, decision.message, hint=decision.hint)
    if isinstance(decision, Stay):
        return False
    now = await database_now(session)
    before = JobState(job.state)
    _move(job, decision, happening, now, ended)
    data: dict[str, Any] = {"state": job.state, "from": str(before), "attempt": job.attempt}
    if job.reason:
        data["reason"] = job.reason
    if decision.state == JobState.failed and job.error:
        data["error"] = job.error
    data.update(note or {})
    await events.append(session, job, [(EventType.state, now, data)])
    await session.flush()
    if await _tell_webhooks(session, job, data, now):
        changes.hints.add(DELIVERIES)
    changes.hints.add(job_hint(job.id))
    if decision.state == JobState.queued or (before in HELD_STATES and decision.state not in HELD_STATES):
        changes.hints.add(QUEUE)
    elif before == JobState.queued:
        changes.hints.add(MOVED)
    return True


def _move(job: JobRow, move: Move, happening: Happening, now: datetime, ended: Ended | None) -> None:
    before = JobState(job.state)
    job.state = str(move.state)
    job.reason = str(move.reason) if move.reason else None
    if move.state not in HELD_STATES:
        job.token_hash = job.claim_id = job.worker_id = job.lease_until = job.dispatched_at = None
    if not move.counted:
        job.tries = max(0, job.tries - 1)
    if move.fresh:
        job.tries = 0
        job.error = None
        job.result = None
    job.not_before = now + _delay(job.tries) if move.delayed else None
    job.ended_at = now if move.state in FINAL_STATES else None
    if before == JobState.dispatched and move.state == JobState.running:
        job.started_at = job.started_at or now
        job.attempt_started_at = now
        job.tries += 1
    if ended is not None:
        job.error = ended.error
        job.result = ended.result
    if happening == Happening.lose and move.state == JobState.failed:
        job.error = {
            "code": str(move.reason),
            "message": f"The worker was lost {job.tries} times; no attempt is left.",
            "hint": "Look at /api/workers and the workers' logs, then retry the job.",
        }
    if move.state == JobState.succeeded:
        job.progress = {**job.progress, "percent": 100.0, "etaSeconds": 0.0}


def _delay(tries: int) -> timedelta:
    rules = settings()
    seconds = rules.retry_delay_seconds * 2 ** max(0, min(tries, 20) - 1)
    return timedelta(seconds=min(seconds, rules.retry_delay_max_seconds))


TELL_WEBHOOKS = """
INSERT INTO webhook_deliveries (webhook_id, event, state, tries, next_try_at, created_at)
SELECT id, CAST(:event AS jsonb), 'pending', 0, :now, :now FROM webhooks
WHERE project = :project AND :state = ANY(states) AND (kinds = '{}' OR :kind = ANY(kinds))
"""


async def _tell_webhooks(session: AsyncSession, job: JobRow, data: dict[str, Any], now: datetime) -> bool:
    event = {
        "type": f"job.{job.state}",
        "timestamp": now,
        "data": {
            "id": job.id,
            "kind": job.kind,
            "name": job.name,
            "project": job.project,
            "labels": job.labels,
            "seq": job.last_seq,
            **data,
        },
    }
    done = await session.execute(
        text(TELL_WEBHOOKS),
        {
            "event": orjson.dumps(event).decode(),
            "now": now,
            "project": job.project,
            "state": job.state,
            "kind": job.kind,
        },
    )
    return bool(done.rowcount)  # type: ignore[attr-defined]
