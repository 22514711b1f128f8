"""What a worker's attempt may do: claim the job it was sent and report on it, by its own token alone."""

import hashlib
import hmac
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.datasets.finding import dataset_input, light_rows
from control_plane.datasets.rows import DatasetRow, JobDatasetRow
from control_plane.deployments.after_training import deploy_made
from control_plane.hints import MODELS, job_hint
from control_plane.jobs import events, logs, metrics
from control_plane.jobs.lifecycle import Happening
from control_plane.jobs.rows import JobRow
from control_plane.jobs.transitions import Changes, Ended, apply, database_now, lock_job
from control_plane.models import checkpoints
from control_plane.models.registering import register_produced
from control_plane.models.resolving import inputs_of
from control_plane.problems import Refusal
from control_plane.settings import settings
from control_plane.tokens import service as tokens
from control_plane.tokens.sealing import Sealer
from imts_shared.contracts.internal import (
    Checkpoint,
    ClaimAnswer,
    ClaimRequest,
    DatasetInput,
    Outcome,
    ReportAnswer,
    ReportedEvent,
    ReportRequest,
)
from imts_shared.contracts.jobs import EventType, JobKind, JobState, Reason

_OVER = "This attempt is over; nothing it says is taken any more."


def token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def attempt_prefix(job: JobRow) -> str:
    return f"jobs/{job.id}/{job.attempt}/"


async def _lock_attempt(session: AsyncSession, job_id: str, token: str, attempt: int) -> JobRow:
    """The row lock puts reports, stops and the end of the lease into one order; the token decides who is heard."""
    try:
        job = await lock_job(session, job_id)
    except Refusal:
        raise Refusal(409, "attempt_over", _OVER) from None
    if job.token_hash is None or job.attempt != attempt:
        raise Refusal(409, "attempt_over", _OVER)
    if not hmac.compare_digest(job.token_hash, token_hash(token)):
        raise Refusal(401, "wrong_token", "This is not the token of the job's attempt.")
    return job


async def claim(session: AsyncSession, job_id: str, token: str, request: ClaimRequest, changes: Changes) -> ClaimAnswer:
    """Go, or drop. The same delivery asking twice (its answer was lost) is told to go again; another one is not."""
    job = await _lock_attempt(session, job_id, token, request.attempt)
    rules = settings()
    repeated = job.state == JobState.running and job.claim_id == request.claim_id
    if not repeated:
        if job.worker_id != request.worker_id:
            raise Refusal(409, "attempt_over", "The attempt was given to another worker.")
        job.claim_id = request.claim_id
        job.batch = 0
    job.lease_until = await database_now(session) + timedelta(seconds=rules.lease_seconds)
    given = await tokens.for_attempt(session, job.kind, job.project, Sealer.of(rules))
    if not repeated:
        await apply(session, job, Happening.claim, changes, ended=Ended(), note={"workerId": request.worker_id})
        now = await database_now(session)
        await events.append(session, job, [(EventType.message, now, {"text": said}) for said in given.troubles])
    return ClaimAnswer(
        job_id=str(job.id),
        kind=JobKind(job.kind),
        project=job.project,
        attempt=job.attempt,
        spec=job.spec,
        inputs=await _inputs(session, job),
        models=await inputs_of(session, job),
        secrets=given.secrets,
        prefix=attempt_prefix(job),
        resume_from=Checkpoint.model_validate(job.checkpoint) if job.checkpoint else None,
        lease_seconds=rules.lease_seconds,
        beat_seconds=min(rules.beat_seconds, rules.lease_seconds / 5),
        stop_grace_seconds=rules.stop_grace_seconds,
        timeout_seconds=job.timeout_seconds,
    )


async def _inputs(session: AsyncSession, job: JobRow) -> list[DatasetInput]:
    rows = (
        await session.execute(
            light_rows()
            .join(JobDatasetRow, col(JobDatasetRow.dataset_id) == col(DatasetRow.id))
            .where(col(JobDatasetRow.job_id) == job.id)
        )
    ).scalars()
    return [dataset_input(row) for row in rows]


async def report(
    session: AsyncSession, job_id: str, token: str, request: ReportRequest, changes: Changes
) -> ReportAnswer:
    """Applies a batch once, renews the lease and says whether to go on. A repeated batch only renews the lease."""
    job = await _lock_attempt(session, job_id, token, request.attempt)
    if job.state not in {JobState.running, JobState.stopping}:
        raise Refusal(409, "not_claimed", "The attempt must be claimed before it reports.")
    rules = settings()
    if request.batch is not None and request.batch > job.batch:
        if request.batch != job.batch + 1:
            raise Refusal(
                409,
                "batch_missing",
                f"Batch {job.batch + 1} has not come yet.",
                hint="Send the batches in order.",
            )
        job.batch = request.batch
        await _apply_events(session, job, request, changes)
    order = _order(job)
    if request.outcome is not None:
        await _finish(session, job, request.outcome, changes)
    else:
        job.lease_until = await database_now(session) + timedelta(seconds=rules.lease_seconds)
    return ReportAnswer(order=order, lease_seconds=rules.lease_seconds)


def _order(job: JobRow) -> Any:
    if job.state != JobState.stopping:
        return "continue"
    return "pause" if job.reason == Reason.user_paused else "stop"


async def _apply_events(session: AsyncSession, job: JobRow, request: ReportRequest, changes: Changes) -> None:
    new: list[events.NewEvent] = []
    if request.logs:
        new.append(await logs.append(session, job, request.logs))
    points = [event for event in request.events if event.type == EventType.metric]
    known = await metrics.of_earlier_attempts(session, job, points)
    for event in request.events:
        await _take(session, job, event)
        if not (event.type == EventType.metric and metrics.told_before(event, known)):
            new.append((event.type, event.at, event.data))
    await metrics.store(session, job, points)
    if new:
        await events.append(session, job, new)
        changes.hints.add(job_hint(job.id))


async def _take(session: AsyncSession, job: JobRow, event: ReportedEvent) -> None:
    """What an event says about the job itself. A file outside the attempt's own prefix is refused."""
    if event.type == EventType.progress:
        known = {"percent", "step", "totalSteps", "etaSeconds"}
        job.progress = {**job.progress, **{k: v for k, v in event.data.items() if k in known}}
    elif event.type == EventType.checkpoint:
        said = checkpoints.reported(event.data)
        _own_file(job, said.prefix)
        job.checkpoint = {
            "attempt": job.attempt,
            "step": said.step,
            "prefix": said.prefix,
            "bytes": said.bytes,
        }
        await checkpoints.note(session, job, said)
    elif event.type == EventType.artifact:
        _own_file(job, str(event.data.get("key", "")))


def _own_file(job: JobRow, place: str) -> None:
    if not place.startswith(attempt_prefix(job)) or ".." in place:
        raise Refusal(
            422,
            "foreign_file",
            f"The attempt may only name files under {attempt_prefix(job)}.",
            field="events",
        )


_HAPPENS = {
    "succeeded": Happening.succeed,
    "failed": Happening.fail,
    "stopped": Happening.halt,
    "released": Happening.release,
}


async def _finish(session: AsyncSession, job: JobRow, outcome: Outcome, changes: Changes) -> None:
    error = None
    if outcome.status == "failed":
        error = {
            "code": str(outcome.reason or Reason.engine_error),
            "message": outcome.message or "The engine failed without a word.",
            "hint": outcome.hint,
        }
    moved = await apply(
        session,
        job,
        _HAPPENS[outcome.status],
        changes,
        reason=outcome.reason,
        ended=Ended(error=error, result=outcome.result),
    )
    done = outcome.status in {"succeeded", "stopped"} and job.state in {JobState.succeeded, JobState.stopped}
    if moved and done and outcome.result and "models" in outcome.result:
        job.result = await register_produced(session, job, outcome.result, attempt_prefix(job))
        await deploy_made(session, job, job.result["models"], changes)
        changes.hints.add(MODELS)
