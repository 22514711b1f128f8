"""Checkpoints: noted as attempts report them, freed when there are too many, and promoted to models."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.caller import Caller
from control_plane.jobs.rows import JobMetricRow, JobRow
from control_plane.jobs.transitions import lock_job
from control_plane.models.finding import light_rows
from control_plane.models.manifest import BadManifest, read_manifest
from control_plane.models.naming import default_name
from control_plane.models.registering import base_of, register
from control_plane.models.rows import CheckpointRow, ModelRow
from control_plane.problems import Refusal
from control_plane.storage.rows import trash
from imts_shared.contracts.models import ModelKind, PromoteRequest, StoredCheckpoint
from imts_shared.storage import Storage

ADAPTERS = frozenset({"lora", "qlora", "oft"})

NOT_PROMOTED = """NOT EXISTS (
    SELECT 1 FROM models m WHERE m.job_id = c.job_id AND (m.prefix = c.prefix
        OR starts_with(m.prefix, c.prefix || '/') OR starts_with(c.prefix, m.prefix || '/'))
)"""
"""No model's files lie in the folder of checkpoint `c`, nor the other way round."""

_SURPLUS = text(f"""
DELETE FROM job_checkpoints c WHERE c.job_id = :job AND c.prefix <> :newest AND {NOT_PROMOTED}
AND (c.attempt, c.step) NOT IN (
    SELECT attempt, step FROM job_checkpoints WHERE job_id = :job ORDER BY attempt DESC, step DESC LIMIT :most
) RETURNING c.prefix
""")

_NOTE = text("""
INSERT INTO job_checkpoints (job_id, attempt, step, prefix, bytes, files, created_at)
VALUES (:job, :attempt, :step, :prefix, :bytes, :files, clock_timestamp())
""")

_SAME = text("""
DELETE FROM job_checkpoints
WHERE job_id = :job AND (prefix = :prefix OR (attempt = :attempt AND step = :step))
""")


class ReportedCheckpoint(BaseModel):
    """What the event of a checkpoint says."""

    prefix: str = ""
    step: Annotated[int, Field(ge=0, lt=2**63)] = 0
    bytes: Annotated[int, Field(ge=0, lt=2**63)] = 0
    files: Annotated[int, Field(ge=0, lt=2**31)] = 0


def reported(data: dict[str, Any]) -> ReportedCheckpoint:
    try:
        return ReportedCheckpoint.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refusal(422, "bad_checkpoint", f"{place}: {first['msg']}.", field="events") from None


async def note(session: AsyncSession, job: JobRow, checkpoint: ReportedCheckpoint) -> None:
    """Keeps what the locked job's attempt reports, and frees what its saveTotalLimit no longer allows."""
    prefix = checkpoint.prefix.rstrip("/")
    place = {"job": job.id, "attempt": job.attempt, "step": checkpoint.step, "prefix": prefix}
    await session.execute(_SAME, place)
    await session.execute(_NOTE, {**place, "bytes": checkpoint.bytes, "files": checkpoint.files})
    most = job.spec.get("saveTotalLimit")
    if isinstance(most, int) and not isinstance(most, bool) and most >= 1:
        gone = await session.execute(_SURPLUS, {"job": job.id, "newest": prefix, "most": most})
        for freed in gone.scalars().all():
            await trash(session, freed)


async def listed(session: AsyncSession, job: JobRow) -> list[StoredCheckpoint]:
    """Newest first."""
    rows = await _rows(session, job.id)
    models = (await session.execute(light_rows().where(col(ModelRow.job_id) == job.id))).scalars()
    promoted = {model.prefix: str(model.id) for model in models}
    newest = str((job.checkpoint or {}).get("prefix", "")).rstrip("/")
    return [
        StoredCheckpoint(
            step=row.step,
            attempt=row.attempt,
            prefix=row.prefix,
            bytes=row.bytes,
            files=row.files,
            created_at=row.created_at,
            newest=row.prefix == newest,
            model_id=promoted.get(row.prefix),
        )
        for row in rows
    ]


async def _rows(session: AsyncSession, job_id: UUID, step: int | None = None) -> list[CheckpointRow]:
    query = select(CheckpointRow).where(col(CheckpointRow.job_id) == job_id)
    if step is not None:
        query = query.where(col(CheckpointRow.step) == step)
    newest_first = query.order_by(col(CheckpointRow.attempt).desc(), col(CheckpointRow.step).desc())
    return list((await session.execute(newest_first)).scalars())


async def promote(
    session: AsyncSession, storage: Storage, job_id: str, step: int, asked: PromoteRequest, caller: Caller
) -> tuple[ModelRow, bool]:
    """The model, and whether it is new. The job's lock keeps the checkpoint from being freed meanwhile."""
    job = await lock_job(session, job_id, caller.project)
    rows = await _rows(session, job.id, step)
    if not rows:
        raise _unknown_step(job, step, [row.step for row in await _rows(session, job.id)])
    checkpoint = rows[0]
    before: ModelRow | None = (
        await session.execute(
            light_rows()
            .where(col(ModelRow.job_id) == job.id, col(ModelRow.prefix) == checkpoint.prefix)
            .order_by(col(ModelRow.id))
            .limit(1)
        )
    ).scalar_one_or_none()
    if before is not None:
        return before, False
    return await _register(session, storage, job, checkpoint, asked.name, caller), True


async def _register(
    session: AsyncSession, storage: Storage, job: JobRow, checkpoint: CheckpointRow, name: str | None, caller: Caller
) -> ModelRow:
    try:
        files, digest = await asyncio.to_thread(read_manifest, storage, checkpoint.prefix)
    except BadManifest as error:
        raise Refusal(
            409,
            "checkpoint_files_missing",
            f"The files of the checkpoint at step {checkpoint.step} are not whole: {error}.",
            hint=f"Choose another one: GET /api/jobs/{job.id}/checkpoints.",
        ) from None
    base = job.spec.get("modelName")
    base = base if isinstance(base, str) else None
    adapter = job.spec.get("finetuningType") in ADAPTERS
    return await register(
        session,
        job.project,
        default_name(job, base, name),
        kind=str(ModelKind.adapter if adapter else ModelKind.merged),
        base_model=base,
        base_model_id=await base_of(session, job, base),
        template=job.spec.get("template"),
        job_id=job.id,
        checkpoint_step=checkpoint.step,
        prefix=checkpoint.prefix,
        bytes=sum(file.bytes for file in files),
        files=len(files),
        sha256=digest,
        details={"fromCheckpoint": True},
        metrics=await _metrics_at(session, job.id, checkpoint.step),
        created_by=caller.key_id,
    )


async def _metrics_at(session: AsyncSession, job_id: UUID, step: int) -> dict[str, float]:
    point = await session.get(JobMetricRow, (job_id, step))
    values = point.values if point is not None else {}
    return {
        name: value for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _unknown_step(job: JobRow, step: int, known: list[int]) -> Refusal:
    steps = ", ".join(str(one) for one in known[:10])
    return Refusal(
        404,
        "unknown_checkpoint",
        f"Job {job.id} has no checkpoint of step {step}.",
        field="step",
        hint=f"It has those of the steps {steps}." if known else "No checkpoint of it is kept.",
    )
