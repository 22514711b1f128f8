"""Sweeps go on: the watcher asks for it every two seconds, and at once when one of their jobs has news.

Each step is one transaction under the sweep's lock and leaves everything as the next step needs it, so that whoever
leads next goes on from there. A trial and its job are tied in the transaction that stores the job.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
from loguru import logger
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.database import Database
from control_plane.hints import DELIVERIES, QUEUE, SWEEPS, Hints, job_hint
from control_plane.jobs.intake import Draft, store
from control_plane.jobs.lifecycle import Happening
from control_plane.jobs.references import References
from control_plane.jobs.rows import JobRow
from control_plane.jobs.service import check_queue_quota, drafted
from control_plane.jobs.transitions import Changes, apply, database_now, lock_job
from control_plane.problems import Refusal
from control_plane.sweeps.children import SWEEP_LABEL, TRIAL_LABEL, key_of, new_job
from control_plane.sweeps.rows import SweepRow, TrialRow
from control_plane.sweeps.search import Halving, choose, load, rungs, space_of
from imts_shared.contracts.jobs import FINAL_STATES, JobState, Reason
from imts_shared.contracts.sweeps import ENDED_SWEEPS, SweepState
from imts_shared.storage import StorageError

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout, psycopg.OperationalError, OSError, TimeoutError)
AT_FAULT = frozenset({Reason.bad_config, Reason.bad_data})
HOPELESS_AFTER = 3
"""So many first trials that fail by the request's own fault, and the sweep is given up."""

_LAST_VALUE = text("""
SELECT CAST(values ->> CAST(:metric AS text) AS double precision) FROM job_metrics
WHERE job_id = :job AND jsonb_typeof(values -> CAST(:metric AS text)) = 'number' ORDER BY step DESC LIMIT 1
""")

_VALUES_AT = text("""
SELECT rung.step, point.value FROM unnest(CAST(:steps AS bigint[])) AS rung(step) CROSS JOIN LATERAL (
    SELECT CAST(values ->> CAST(:metric AS text) AS double precision) AS value FROM job_metrics m
    WHERE m.job_id = :job AND m.step >= rung.step AND jsonb_typeof(values -> CAST(:metric AS text)) = 'number'
    ORDER BY m.step LIMIT 1
) point ORDER BY rung.step
""")


async def advance_all(database: Database, references: References, hints: Hints) -> set[UUID]:
    """Every sweep that has not ended, a step on. Answers the jobs whose news they wait for. A sweep that cannot go on
    is no other's business."""
    async with database.statements() as session:
        query = select(col(SweepRow.id)).where(text("ended_at IS NULL")).order_by(col(SweepRow.id))
        going_on = (await session.execute(query)).scalars().all()
    waited_for: set[UUID] = set()
    for sweep_id in going_on:
        try:
            waited_for |= await advance(database, references, hints, sweep_id)
        except DATABASE_AWAY:
            raise
        except Exception:  # noqa: BLE001 - a sweep is the work of one user; everybody's dispatch goes on beside it
            logger.bind(sweep=str(sweep_id)).exception("a sweep cannot go on")
    return waited_for


async def advance(database: Database, references: References, hints: Hints, sweep_id: UUID) -> set[UUID]:
    """Notes what its jobs have come to, plans and submits the next trials, stops what is to be stopped."""
    async with database.transaction() as session:
        method = await session.scalar(select(col(SweepRow.method)).where(col(SweepRow.id) == sweep_id))
    if method in {"random", "asha"}:
        await asyncio.to_thread(load)
    async with database.transaction() as session:
        row = await _lock(session, sweep_id)
        if row is None:
            return set()
        trials, jobs = await _trials(session, row)
        await _note(session, row, trials, jobs)
        _give_up(row, trials)
        if row.state == SweepState.running:
            trials += _plan(session, row, trials)
        await _end(session, row, trials)
        ended = row.state in ENDED_SWEEPS
    if ended:
        hints.send(SWEEPS)
        return set()
    for trial in trials:
        if trial.state == "active" and (trial.pruned_at_step is not None or row.state == SweepState.stopping):
            await _stop(database, hints, trial.job_id)
    if row.state == SweepState.running:
        for trial in trials:
            if trial.state == "waiting" and not await _submit(database, references, hints, row, trial):
                break
    return {trial.job_id for trial in trials if trial.state == "active" and trial.job_id is not None}


async def _lock(session: AsyncSession, sweep_id: UUID) -> SweepRow | None:
    query = select(SweepRow).where(col(SweepRow.id) == sweep_id, text("ended_at IS NULL")).with_for_update()
    row: SweepRow | None = (await session.execute(query)).scalar_one_or_none()
    return row


async def _trials(session: AsyncSession, row: SweepRow) -> tuple[list[TrialRow], dict[UUID, JobRow]]:
    """All trials by number, and the jobs of those that are active."""
    query = select(TrialRow).where(col(TrialRow.sweep_id) == row.id).order_by(col(TrialRow.number))
    trials = list((await session.execute(query)).scalars())
    active = [trial.job_id for trial in trials if trial.state == "active" and trial.job_id is not None]
    jobs = (await session.execute(select(JobRow).where(col(JobRow.id).in_(active)))).scalars() if active else ()
    return trials, {job.id: job for job in jobs}


async def _note(session: AsyncSession, row: SweepRow, trials: Sequence[TrialRow], jobs: dict[UUID, JobRow]) -> None:
    active = [trial for trial in trials if trial.state == "active"]
    if row.asha is not None:
        await _compare(session, row, active, jobs)
    for trial in active:
        job = jobs.get(trial.job_id) if trial.job_id is not None else None
        if job is None:
            trial.state = "stopped"
            trial.error = {"code": "job_deleted", "message": "The job was deleted before its end was noted."}
        elif job.state in FINAL_STATES:
            trial.value = await _last_value(session, row, job)
            _note_end(trial, job)


def _note_end(trial: TrialRow, job: JobRow) -> None:
    if job.state == JobState.stopped:
        trial.state = "stopped" if trial.pruned_at_step is None else "pruned"
        return
    trial.state = job.state
    trial.pruned_at_step = None
    if job.state == JobState.failed:
        error = job.error or {}
        message = error.get("message") or "The job failed."
        trial.error = {**error, "code": job.reason or error.get("code") or "failed", "message": message}


async def _last_value(session: AsyncSession, row: SweepRow, job: JobRow) -> float | None:
    value = await session.scalar(_LAST_VALUE, {"job": job.id, "metric": row.metric})
    if value is None:
        value = ((job.result or {}).get("metrics") or {}).get(row.metric)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


async def _compare(session: AsyncSession, row: SweepRow, active: Sequence[TrialRow], jobs: dict[UUID, JobRow]) -> None:
    """Reports each rung that a trial has reached, once, with its first value from there on. One that has ended is
    compared with as well; it cannot be stopped any more."""
    assert row.asha is not None
    minimum, factor = row.asha["minSteps"], row.asha["reductionFactor"]
    new: list[list[Any]] = []
    halving: Halving | None = None
    for trial in active:
        job = jobs.get(trial.job_id) if trial.job_id is not None else None
        if job is None or trial.pruned_at_step is not None:
            continue
        made = sum(1 for number, *_ in row.reports if number == trial.number)
        asked = {"job": job.id, "metric": row.metric, "steps": rungs(minimum, factor, made)}
        for step, value in (await session.execute(_VALUES_AT, asked)).all():
            if halving is None:
                told = [(n, s, v) for n, s, v in row.reports]
                halving = await asyncio.to_thread(Halving, row.goal, minimum, factor, told)
            new.append([trial.number, step, value])
            if halving.hopeless(trial.number, step, value) and job.state not in FINAL_STATES:
                trial.pruned_at_step = step
                break
    if new:
        row.reports = [*row.reports, *new]


def _give_up(row: SweepRow, trials: Sequence[TrialRow]) -> None:
    first = trials[:HOPELESS_AFTER]
    if row.state != SweepState.running or len(first) < HOPELESS_AFTER:
        return
    if all(trial.state == "failed" and (trial.error or {}).get("code") in AT_FAULT for trial in first):
        told = first[0].error or {}
        row.state = str(SweepState.stopping)
        row.error = {
            "code": told.get("code"),
            "message": f"The first {HOPELESS_AFTER} trials failed: {told.get('message')}",
            "hint": told.get("hint"),
        }


def _plan(session: AsyncSession, row: SweepRow, trials: Sequence[TrialRow]) -> list[TrialRow]:
    """The next trials, with their values, as far as there is room."""
    busy = sum(1 for trial in trials if trial.state in {"waiting", "active"})
    planned: list[TrialRow] = []
    space = space_of(row.parameters)
    taken = [trial.parameters for trial in trials]
    for number in range(len(trials) + 1, min(row.trials, len(trials) + row.concurrency - busy) + 1):
        point = choose(row.method, space, row.seed, number, taken)
        taken.append(point)
        planned.append(TrialRow(sweep_id=row.id, number=number, state="waiting", parameters=point))
    session.add_all(planned)
    return planned


async def _end(session: AsyncSession, row: SweepRow, trials: Sequence[TrialRow]) -> None:
    stopping = row.state == SweepState.stopping
    if stopping:
        for trial in trials:
            if trial.state == "waiting":
                trial.state = "stopped"
    if any(trial.state in {"waiting", "active"} for trial in trials) or not (stopping or len(trials) >= row.trials):
        return
    if row.error is not None:
        row.state = str(SweepState.failed)
    elif stopping:
        row.state = str(SweepState.stopped)
    elif any(trial.state == "succeeded" for trial in trials):
        row.state = str(SweepState.succeeded)
    else:
        row.state = str(SweepState.failed)
        row.error = {"code": "no_trial_succeeded", "message": f"None of the {len(trials)} trials succeeded."}
    row.ended_at = await database_now(session)


async def _stop(database: Database, hints: Hints, job_id: UUID | None) -> None:
    """As its user would stop it; asking again changes nothing."""
    if job_id is None:
        return
    changes = Changes()
    async with database.transaction() as session:
        try:
            job = await lock_job(session, job_id)
        except Refusal:
            return
        if job.state not in FINAL_STATES:
            await apply(session, job, Happening.stop, changes)
    changes.send(hints)


async def _submit(database: Database, references: References, hints: Hints, row: SweepRow, trial: TrialRow) -> bool:
    """False when no other need be tried now: the project's queue is full, the sweep is over or the trial is taken."""
    try:
        job = new_job(row.base, trial.parameters, row.project, row.priority, row.created_by)
        job.name = f"{row.name}-{trial.number}" if row.name else None
        job.labels = {**row.labels, SWEEP_LABEL: str(row.id), TRIAL_LABEL: str(trial.number)}
        draft = await drafted(references, job, key_of(row.id, trial.number))
    except StorageError:
        return False
    except (Refusal, ValueError) as refused:
        if isinstance(refused, Refusal) and (refused.status == 429 or refused.status >= 500):
            return False
        return await _refused(database, trial, refused)
    try:
        return await _store(database, hints, trial, draft)
    except Refusal as refused:
        logger.bind(sweep=str(row.id), trial=trial.number, code=refused.code).info("a trial waits")
        return False
    except IntegrityError:
        references.forget()
        return False


async def _refused(database: Database, trial: TrialRow, refused: Refusal | ValueError) -> bool:
    if isinstance(refused, Refusal):
        error = {"code": str(Reason.bad_config), "message": refused.detail, "hint": refused.hint}
    else:
        error = {"code": str(Reason.bad_config), "message": str(refused)[:1_000]}
    async with database.transaction() as session:
        kept = await _lock_waiting(session, trial)
        if kept is None:
            return False
        kept.state = trial.state = "failed"
        kept.error = error
    return True


async def _store(database: Database, hints: Hints, trial: TrialRow, draft: Draft) -> bool:
    async with database.transaction() as session:
        kept = await _lock_waiting(session, trial)
        if kept is None:
            return False
        await check_queue_quota(session, draft.project)
        stored = await store(session, draft)
        kept.state = "active"
        kept.job_id = draft.id if stored is not None else await _made_before(session, draft)
    trial.state, trial.job_id = kept.state, kept.job_id
    hints.send(QUEUE, job_hint(draft.id), *([DELIVERIES] if stored is not None and stored.told_webhooks else []))
    return True


async def _lock_waiting(session: AsyncSession, trial: TrialRow) -> TrialRow | None:
    """The trial, if it still waits in a sweep that still runs."""
    row = await _lock(session, trial.sweep_id)
    if row is None or row.state != SweepState.running:
        return None
    kept = await session.get(TrialRow, (trial.sweep_id, trial.number))
    return kept if kept is not None and kept.state == "waiting" else None


async def _made_before(session: AsyncSession, draft: Draft) -> UUID | None:
    query = select(col(JobRow.id)).where(col(JobRow.project) == draft.project, col(JobRow.idempotency_key) == draft.key)
    found: UUID | None = (await session.execute(query)).scalar_one_or_none()
    return found
