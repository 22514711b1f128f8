"""Making, finding, stopping and deleting sweeps, and what the world reads of them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.caller import Caller
from control_plane.database import Database, new_id, parse_id
from control_plane.jobs.references import References
from control_plane.jobs.rows import JobRow
from control_plane.jobs.transitions import database_now
from control_plane.models.rows import ModelRow
from control_plane.problems import Refusal, not_found
from control_plane.sweeps.checking import check_points, checked_parameters, count_trials, place_of, refusal
from control_plane.sweeps.children import SWEEP_LABEL, TRIAL_LABEL, new_job
from control_plane.sweeps.rows import SweepRow, TrialRow
from control_plane.sweeps.search import space_of
from imts_shared.contracts.jobs import JobError, JobKind
from imts_shared.contracts.sweeps import (
    ENDED_SWEEPS,
    AshaRequest,
    BestTrial,
    Sweep,
    SweepCounts,
    SweepParameter,
    SweepRequest,
    SweepState,
    SweepSummary,
    SweepTrial,
)

MOST_LABELS = 64


async def make(
    database: Database, references: References, request: SweepRequest, caller: Caller, idempotency_key: str | None
) -> tuple[SweepRow, bool]:
    """The sweep and True, or False with the one that the same request had made before. It is refused before anything
    is made: names first, then fields and values, then its first job."""
    project = _project(request, caller)
    async with database.transaction() as session:
        if await session.scalar(text("SELECT 1 FROM projects WHERE name = :name"), {"name": project}) is None:
            raise not_found("project", project)
        row = _row_of(request, caller, project, await database_now(session))
        row.idempotency_key = idempotency_key
        row.request_hash = hashlib.sha256(request.model_dump_json(by_alias=True).encode()).digest()
        before = await _made_before(session, row)
    if before is not None:
        return before, False
    plain = new_job(row.base, {}, row.project, row.priority, row.created_by)
    try:
        await references.training_request(row.project, plain.spec)
    except Refusal as found:
        found.field = place_of(found.field, {})
        raise
    row.parameters = checked_parameters(request)
    row.trials = count_trials(request, space_of(row.parameters))
    row.asha = _asha(request)
    await _check_first(references, row, check_points(row.base, row.parameters, row.method))
    return await _store(database, row)


async def _store(database: Database, row: SweepRow) -> tuple[SweepRow, bool]:
    try:
        async with database.transaction() as session:
            session.add(row)
    except IntegrityError:
        async with database.transaction() as session:
            before = await _made_before(session, row)
        if before is None:
            raise
        return before, False
    return row, True


async def _made_before(session: AsyncSession, row: SweepRow) -> SweepRow | None:
    if row.idempotency_key is None:
        return None
    query = select(SweepRow).where(
        col(SweepRow.project) == row.project, col(SweepRow.idempotency_key) == row.idempotency_key
    )
    before: SweepRow | None = (await session.execute(query)).scalar_one_or_none()
    if before is not None and before.request_hash != row.request_hash:
        raise Refusal(
            409, "idempotency_conflict", "This Idempotency-Key was used for another request.",
            field="Idempotency-Key", hint=f"It made sweep {before.id}. Send a new key for a new sweep.",
        )  # fmt: skip
    return before


def _row_of(request: SweepRequest, caller: Caller, project: str, now: datetime) -> SweepRow:
    base = request.base.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    return SweepRow(
        id=new_id(),
        project=project,
        name=request.name or (request.base.name or "")[:150] or None,
        state=str(SweepState.running),
        method=request.method,
        base={k: v for k, v in base.items() if k not in {"name", "project", "priority", "labels"}},
        trials=1,
        concurrency=request.concurrency,
        metric=request.metric or ("evalLoss" if _evaluates(request) else "loss"),
        goal=request.goal,
        seed=request.seed,
        priority=request.base.priority if request.priority is None else request.priority,
        labels=_labels(request),
        reports=[],
        created_at=now,
        created_by=caller.key_id,
    )


def _project(request: SweepRequest, caller: Caller) -> str:
    if request.base.project is not None and request.project not in {None, request.base.project}:
        raise refusal(
            "conflicting_fields", "base.project", f"the sweep's project is {request.project!r}.",
            "Name the project once.", 409,
        )  # fmt: skip
    return caller.writes_in(request.project or request.base.project)


def _labels(request: SweepRequest) -> dict[str, str]:
    labels = {**request.base.labels, **request.labels}
    for name in (SWEEP_LABEL, TRIAL_LABEL):
        if name in labels:
            raise refusal("conflicting_fields", f"labels.{name}", "the sweep sets it.", "Leave it out.", 409)
    if len(labels) > MOST_LABELS - 2:
        raise refusal("too_many_labels", "labels", f"with the base's there are {len(labels)}.", status=409)
    return labels


def _evaluates(request: SweepRequest) -> bool:
    base = request.base
    tried = {"evalDataset", "valSize", "eval_dataset", "val_size"} & request.parameters.keys()
    return bool(base.eval_dataset or base.val_size or tried)


def _asha(request: SweepRequest) -> dict[str, Any] | None:
    if request.method != "asha":
        return None
    asked = request.asha or AshaRequest()
    factor = asked.reduction_factor
    steps = asked.min_steps or max(1, request.base.max_steps // factor**2 if request.base.max_steps else 10)
    return {"minSteps": steps, "reductionFactor": factor}


async def _check_first(references: References, row: SweepRow, first: Mapping[str, Any]) -> None:
    """As an ordinary submission is checked, so that a typo in `advanced` is told at once."""
    job = new_job(row.base, first, row.project, row.priority, row.created_by)
    try:
        await references.find(JobKind.training, row.project, job.spec)
    except Refusal as found:
        found.field = place_of(found.field, row.parameters)
        for problem in found.errors or []:
            problem.field = place_of(problem.field, row.parameters) or problem.field
        raise


async def get(session: AsyncSession, sweep_id: str, project: str | None, *, lock: bool = False) -> SweepRow:
    identity = parse_id(sweep_id)
    row: SweepRow | None = None
    if identity is not None:
        query = select(SweepRow).where(col(SweepRow.id) == identity)
        if project is not None:
            query = query.where(col(SweepRow.project) == project)
        if lock:
            query = query.with_for_update()
        row = (await session.execute(query)).scalar_one_or_none()
    if row is None:
        raise not_found("sweep", sweep_id)
    return row


async def find(session: AsyncSession, project: str | None, before: UUID | None, limit: int) -> Sequence[SweepRow]:
    query = select(SweepRow).order_by(col(SweepRow.id).desc()).limit(limit)
    if project is not None:
        query = query.where(col(SweepRow.project) == project)
    if before is not None:
        query = query.where(col(SweepRow.id) < before)
    return (await session.execute(query)).scalars().all()


async def stop(session: AsyncSession, sweep_id: str, project: str | None) -> SweepRow:
    """The watcher stops its jobs and ends it. What is stopping or has ended stays as it is."""
    row = await get(session, sweep_id, project, lock=True)
    if row.state == SweepState.running:
        row.state = str(SweepState.stopping)
    return row


async def remove(session: AsyncSession, sweep_id: str, project: str | None) -> None:
    row = await get(session, sweep_id, project, lock=True)
    if row.state not in ENDED_SWEEPS:
        raise Refusal(
            409, "sweep_not_ended", f"The sweep is {row.state}; only one that has ended can be deleted.",
            hint="Stop it first.",
        )  # fmt: skip
    await session.execute(delete(SweepRow).where(col(SweepRow.id) == row.id))


_COUNTS = select(col(TrialRow.sweep_id), col(TrialRow.state), func.count()).group_by(
    col(TrialRow.sweep_id), col(TrialRow.state)
)


async def summaries(session: AsyncSession, rows: Sequence[SweepRow]) -> list[SweepSummary]:
    found = await session.execute(_COUNTS.where(col(TrialRow.sweep_id).in_([row.id for row in rows])))
    counts: dict[UUID, dict[str, int]] = {}
    for sweep_id, state, count in found.all():
        counts.setdefault(sweep_id, {})[state] = count
    return [SweepSummary(**_summary(row, counts.get(row.id, {}))) for row in rows]


def _summary(row: SweepRow, counts: Mapping[str, int]) -> dict[str, Any]:
    begun = sum(counts.values()) - counts.get("waiting", 0)
    ended = row.state in ENDED_SWEEPS
    return {
        "id": str(row.id),
        "name": row.name,
        "project": row.project,
        "state": SweepState(row.state),
        "method": row.method,
        "metric": row.metric,
        "goal": row.goal,
        "counts": SweepCounts(**{**counts, "trials": row.trials, "waiting": 0 if ended else row.trials - begun}),
        "created_at": row.created_at,
        "ended_at": row.ended_at,
    }


_ORDER = {"succeeded": 0, "pruned": 1, "stopped": 1}


def ranked(trials: Iterable[TrialRow], goal: str) -> list[tuple[TrialRow, int | None]]:
    """Best first: those that succeeded by their value, then those that were stopped on the way by theirs, then those
    without a value, which have no rank."""
    sign = 1 if goal == "minimize" else -1

    def place(trial: TrialRow) -> tuple[int, float, int]:
        if trial.value is None or trial.state not in _ORDER:
            return 2, 0.0, trial.number
        return _ORDER[trial.state], sign * trial.value, trial.number

    ordered = sorted(trials, key=place)
    return [(trial, rank if place(trial)[0] < 2 else None) for rank, trial in enumerate(ordered, 1)]


async def answer_of(session: AsyncSession, row: SweepRow) -> Sweep:
    query = (
        select(TrialRow, col(JobRow.state))
        .outerjoin(JobRow, col(JobRow.id) == col(TrialRow.job_id))
        .where(col(TrialRow.sweep_id) == row.id)
    )
    found = (await session.execute(query)).all()
    job_states = {trial.number: state for trial, state in found}
    order = ranked((trial for trial, _ in found), row.goal)
    counts: dict[str, int] = {}
    for trial, _ in found:
        counts[trial.state] = counts.get(trial.state, 0) + 1
    return Sweep(
        **_summary(row, counts),
        base=row.base,
        parameters={name: SweepParameter.model_validate(told) for name, told in row.parameters.items()},
        concurrency=row.concurrency,
        seed=row.seed,
        asha=AshaRequest.model_validate(row.asha) if row.asha else None,
        labels=row.labels,
        error=JobError.model_validate(row.error) if row.error else None,
        best=await _best(session, order),
        trials=[_trial(trial, rank, job_states[trial.number]) for trial, rank in order],
    )


def _trial(trial: TrialRow, rank: int | None, job_state: str | None) -> SweepTrial:
    state = (job_state or "stopped") if trial.state == "active" else trial.state
    return SweepTrial(
        number=trial.number,
        job_id=str(trial.job_id) if trial.job_id else None,
        state=state,
        parameters=trial.parameters,
        value=trial.value,
        rank=rank,
        pruned_at_step=trial.pruned_at_step,
        error=JobError.model_validate(trial.error) if trial.error else None,
    )


async def _best(session: AsyncSession, order: Sequence[tuple[TrialRow, int | None]]) -> BestTrial | None:
    if not order or order[0][1] is None or order[0][0].state != "succeeded":
        return None
    trial = order[0][0]
    assert trial.value is not None
    model = None
    if trial.job_id is not None:
        query = select(col(ModelRow.id)).where(col(ModelRow.job_id) == trial.job_id, text("checkpoint_step IS NULL"))
        model = (await session.execute(query.order_by(col(ModelRow.id)).limit(1))).scalar_one_or_none()
    return BestTrial(
        number=trial.number,
        job_id=str(trial.job_id) if trial.job_id else None,
        parameters=trial.parameters,
        value=trial.value,
        model_id=str(model) if model else None,
    )
