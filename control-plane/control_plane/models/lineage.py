"""What a model came from, and what was made from it."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.datasets.finding import light_rows as light_datasets
from control_plane.datasets.rows import DatasetRow, JobDatasetRow
from control_plane.jobs.rows import JobRow
from control_plane.models.finding import ancestors, descendants, model_answer
from control_plane.models.rows import ModelRow
from imts_shared.contracts.models import Lineage, LineageDataset, LineageJob


async def lineage_of(session: AsyncSession, row: ModelRow) -> Lineage:
    older = await ancestors(session, row)
    oldest = _lowest(row, older)
    job = await _job(session, row)
    return Lineage(
        model=model_answer(row),
        job=_job_answer(job) if job is not None else None,
        datasets=await _datasets(session, job) if job is not None else [],
        base_model=oldest.source or oldest.base_model,
        ancestors=[model_answer(one) for one in older],
        descendants=[model_answer(one) for one in await descendants(session, row)],
    )


def _lowest(row: ModelRow, older: list[ModelRow]) -> ModelRow:
    """What it stands on in the end; others that its jobs read are beside that line."""
    known = {one.id: one for one in older}
    while row.base_model_id in known:
        row = known[row.base_model_id]
    return row


async def _job(session: AsyncSession, row: ModelRow) -> JobRow | None:
    if row.job_id is None:
        return None
    found: JobRow | None = (
        await session.execute(select(JobRow).where(col(JobRow.id) == row.job_id))
    ).scalar_one_or_none()
    return found


def _job_answer(job: JobRow) -> LineageJob:
    return LineageJob(
        id=str(job.id),
        kind=job.kind,
        name=job.name,
        state=job.state,
        created_at=job.created_at,
        ended_at=job.ended_at,
        configuration=job.spec,
    )


async def _datasets(session: AsyncSession, job: JobRow) -> list[LineageDataset]:
    """The versions that the job read, or what it called them where they are not kept."""
    rows = (
        await session.execute(
            light_datasets()
            .join(JobDatasetRow, col(JobDatasetRow.dataset_id) == col(DatasetRow.id))
            .where(col(JobDatasetRow.job_id) == job.id)
            .order_by(col(DatasetRow.id))
        )
    ).scalars()
    kept = [
        LineageDataset(id=str(row.id), name=row.name, version=row.version, sha256=row.sha256, rows=row.rows)
        for row in rows
    ]
    if kept or not isinstance(job.spec.get("dataset"), str):
        return kept
    version = job.spec.get("datasetVersion")
    return [LineageDataset(name=job.spec["dataset"], version=version if isinstance(version, int) else None)]
