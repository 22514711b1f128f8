"""From a job's row to what the world reads."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.jobs.intake import Draft, Stored
from control_plane.jobs.queue import QueueView, Wait
from control_plane.jobs.rows import JobRow
from imts_shared.contracts.jobs import Job, JobError, JobKind, JobState, Progress, Reason


def job_answer(row: JobRow, wait: Wait | None = None) -> Job:
    return Job.model_construct(
        id=str(row.id),
        kind=JobKind(row.kind),
        name=row.name,
        project=row.project,
        state=JobState(row.state),
        reason=Reason(row.reason) if row.reason else None,
        attempt=row.attempt,
        tries=row.tries,
        max_attempts=row.max_attempts,
        priority=row.priority,
        labels=row.labels,
        queue_position=wait.position if wait else None,
        expected_start_at=wait.expected_start_at if wait else None,
        waiting_for=wait.waiting_for if wait else None,
        progress=Progress.model_validate(row.progress or {}),
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        spec=row.spec,
        result=row.result,
        error=JobError.model_validate(row.error) if row.error else None,
        worker_id=row.worker_id,
        timeout_seconds=row.timeout_seconds,
        clone_of=str(row.clone_of) if row.clone_of else None,
        events_pruned_at=row.events_pruned_at,
    )


def new_job_answer(draft: Draft, stored: Stored, wait: Wait) -> Job:
    """A job that was stored just now, without a way around over a row."""
    return Job.model_construct(
        id=str(draft.id),
        kind=JobKind(draft.kind),
        name=draft.name,
        project=draft.project,
        state=JobState.queued,
        attempt=0,
        tries=0,
        max_attempts=draft.max_attempts,
        priority=draft.priority,
        labels=draft.labels,
        queue_position=wait.position,
        expected_start_at=wait.expected_start_at,
        waiting_for=wait.waiting_for,
        progress=Progress.model_construct(),
        created_at=stored.created_at,
        spec=draft.spec,
        timeout_seconds=draft.timeout_seconds,
        clone_of=str(draft.clone_of) if draft.clone_of else None,
    )


async def job_answers(session: AsyncSession, rows: Sequence[JobRow], queue: QueueView) -> list[Job]:
    waits = await queue.waits(session, [row for row in rows if row.state == JobState.queued])
    return [job_answer(row, waits.get(row.id)) for row in rows]
