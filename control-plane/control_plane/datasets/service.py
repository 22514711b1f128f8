"""Data sets by name and version: stored, found, checked, deleted."""

import asyncio
from dataclasses import dataclass

from loguru import logger
from sqlalchemy import exists, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.caller import Caller
from control_plane.database import Database, new_id
from control_plane.datasets.analyzer import Analyzer, AnalyzerAway, AnalyzerFailed
from control_plane.datasets.finding import content_key, dataset_answer, find_version, light_rows
from control_plane.datasets.rows import DatasetRow, JobDatasetRow
from control_plane.datasets.upload import Upload, checked_format, checked_name, checked_project
from control_plane.jobs.rows import JobRow
from control_plane.problems import Refusal, not_found
from imts_shared.contracts.datasets import Dataset, DatasetFormat, Inspection, RowProblem
from imts_shared.contracts.faults import nearest
from imts_shared.contracts.jobs import FINAL_STATES, JobKind
from imts_shared.storage import Storage


async def resolve(session: AsyncSession, project: str, named: str, kind: JobKind) -> DatasetRow:
    """The version that a new job will read, or why it cannot."""
    row = await find_version(session, project, named)
    if row is None:
        known = (
            await session.execute(
                select(col(DatasetRow.name)).where(col(DatasetRow.project) == project).distinct().limit(1_000)
            )
        ).scalars()
        close = nearest(named, list(known))
        raise Refusal(
            404,
            "unknown_dataset",
            f"There is no data set {named!r} in project {project!r}.",
            field="dataset",
            hint=f"Did you mean {close!r}?" if close else "Upload it first: POST /api/datasets.",
        )
    if row.state != "ready":
        raise Refusal(
            409,
            "dataset_not_ready",
            f"Data set {row.name!r} version {row.version} is {row.state}.",
            field="dataset",
            hint=f"See GET /api/datasets/{row.id}/problems."
            if row.state == "unreadable"
            else f"It is checked as soon as the analyzer answers; look at GET /api/datasets/{row.id}.",
        )
    if kind == JobKind.training and row.bad_rows:
        raise Refusal(
            409,
            "dataset_has_bad_rows",
            f"{row.bad_rows} of {row.rows} rows of data set {row.name!r} version {row.version} are malformed.",
            field="dataset",
            hint=f"See GET /api/datasets/{row.id}/problems, mend them and upload the file again.",
        )
    return row


@dataclass(frozen=True)
class Kept:
    dataset: Dataset
    created: bool


class Datasets:
    """What takes more than one transaction: files, rows and the analyzer's judgement together."""

    def __init__(self, database: Database, storage: Storage, analyzer: Analyzer) -> None:
        self._database = database
        self._storage = storage
        self._analyzer = analyzer

    async def keep(self, upload: Upload, caller: Caller) -> Kept:
        """Judges the uploaded file and makes it a version; the same content under the same name is the same one."""
        try:
            project = caller.writes_in(checked_project(upload.fields.get("project")))
            name = checked_name(upload.fields, upload.file_name)
            asked = checked_format(upload.fields.get("format"))
            before = await self._same(project, name, upload.sha256)
            if before is not None:
                return Kept(before, created=False)
            inspection = await self._inspect(upload.key, upload.file_name, asked)
            return await self._store(upload, caller, project, name, asked, inspection)
        finally:
            await asyncio.to_thread(self._storage.delete, upload.key)

    async def _same(self, project: str, name: str, sha256: str) -> Dataset | None:
        async with self._database.transaction() as session:
            row = (
                await session.execute(
                    light_rows().where(
                        col(DatasetRow.project) == project,
                        col(DatasetRow.name) == name,
                        col(DatasetRow.sha256) == sha256,
                        col(DatasetRow.state) == "ready",
                    )
                )
            ).scalar_one_or_none()
            return dataset_answer(row) if row is not None else None

    async def _inspect(self, key: str, file_name: str, asked: DatasetFormat | None) -> Inspection | None:
        """None while the analyzer is away: then the data set is kept unchecked, and no job may use it yet."""
        try:
            inspection = await self._analyzer.inspect(key, file_name, asked)
        except AnalyzerFailed as error:
            raise Refusal(
                422,
                error.code,
                error.message,
                field="file",
                hint="The log of the analyzer says more.",
            ) from error
        except AnalyzerAway:
            return None
        if inspection.rows == 0:
            first = inspection.problems[0] if inspection.problems else None
            raise Refusal(
                422,
                first.code if first else "no_rows",
                first.message if first else "The file holds no rows.",
                field="file",
                hint="A data set is JSON, JSON Lines, CSV or Parquet in UTF-8 with at least one row.",
            )
        return inspection

    async def _store(
        self,
        upload: Upload,
        caller: Caller,
        project: str,
        name: str,
        asked: DatasetFormat | None,
        inspection: Inspection | None,
    ) -> Kept:
        async with self._database.transaction() as session:
            await _lock_content(session, upload.sha256)
            await session.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 2))"), {"name": f"{project}/{name}"}
            )
            if await session.scalar(text("SELECT 1 FROM projects WHERE name = :p"), {"p": project}) is None:
                raise not_found("project", project)
            newest = select(func.max(DatasetRow.version)).where(
                col(DatasetRow.project) == project, col(DatasetRow.name) == name
            )
            row = (
                await session.execute(
                    select(DatasetRow).where(
                        col(DatasetRow.project) == project,
                        col(DatasetRow.name) == name,
                        col(DatasetRow.sha256) == upload.sha256,
                    )
                )
            ).scalar_one_or_none()
            created = row is None
            if row is None:
                row = DatasetRow(
                    id=new_id(),
                    project=project,
                    name=name,
                    version=((await session.execute(newest)).scalar() or 0) + 1,
                    state="unchecked",
                    asked_format=str(asked) if asked else None,
                    file_name=upload.file_name[:255].replace("\x00", ""),
                    bytes=upload.bytes,
                    sha256=upload.sha256,
                    columns=[],
                    sample=[],
                    problems=[],
                    created_at=await session.scalar(text("SELECT clock_timestamp()")),
                    created_by=caller.key_id,
                )
                session.add(row)
            if inspection is not None:
                _judge(row, inspection)
            await session.flush()
            key = content_key(upload.sha256)
            if not await asyncio.to_thread(self._storage.exists, key):
                await asyncio.to_thread(self._storage.rename, upload.key, key)
        return Kept(dataset_answer(row), created)

    async def inspect_unchecked(self) -> int:
        """Judges what was kept while the analyzer was away, in any order: a file that the analyzer does not get to the
        end of must not keep the others waiting for ever. Answers how many it judged."""
        query = light_rows().where(col(DatasetRow.state) == "unchecked").order_by(func.random()).limit(20)
        async with self._database.statements() as session:
            waiting = (await session.execute(query)).scalars().all()
        judged = 0
        for found in waiting:
            asked = DatasetFormat(found.asked_format) if found.asked_format else None
            try:
                inspection = await self._analyzer.inspect(content_key(found.sha256), found.file_name, asked)
            except AnalyzerFailed as error:
                inspection = _unreadable(error)
            except AnalyzerAway as error:
                logger.bind(dataset=str(found.id), error=str(error)).warning("a data set waits for its inspection")
                break
            async with self._database.transaction() as session:
                row = await session.get(DatasetRow, found.id, with_for_update=True)
                if row is not None and row.state == "unchecked":
                    _judge(row, inspection)
                    judged += 1
        return judged

    async def delete(self, named: str, project: str | None) -> str:
        """Takes one version away; its file goes when no other version holds the same content. Answers its hash."""
        async with self._database.transaction() as session:
            row = await find_version(session, project, named)
            if row is None:
                raise not_found("dataset", named)
            await _lock_content(session, row.sha256)
            await _lock_version(session, row)
            user = (
                await session.execute(
                    select(col(JobRow.id))
                    .join(JobDatasetRow, col(JobDatasetRow.job_id) == col(JobRow.id))
                    .where(
                        col(JobDatasetRow.dataset_id) == row.id,
                        col(JobRow.state).not_in([str(state) for state in FINAL_STATES]),
                    )
                    .limit(1)
                )
            ).scalar_one_or_none()
            if user is not None:
                raise Refusal(
                    409,
                    "dataset_in_use",
                    f"Job {user} has not ended and uses version {row.version} of {row.name!r}.",
                    hint="Stop the job or wait for its end, then delete the data set.",
                )
            sha256 = row.sha256
            await session.delete(row)
        await self._drop_content(sha256)
        return sha256

    async def _drop_content(self, sha256: str) -> None:
        """Under the content's lock, so that an upload of the same content in this very moment keeps its file."""
        async with self._database.transaction() as session:
            await _lock_content(session, sha256)
            held = select(exists().where(col(DatasetRow.sha256) == sha256))
            if not (await session.execute(held)).scalar():
                await asyncio.to_thread(self._storage.delete, content_key(sha256))


def _judge(row: DatasetRow, inspection: Inspection) -> None:
    row.state = "ready" if inspection.rows else "unreadable"
    row.format = str(inspection.format)
    row.file_type = inspection.file_type
    row.rows = inspection.rows
    row.bad_rows = inspection.bad_rows
    row.columns = inspection.columns
    row.sample = inspection.sample
    row.problems = [problem.model_dump() for problem in inspection.problems]


def _unreadable(error: AnalyzerFailed) -> Inspection:
    problem = RowProblem(line=1, code=error.code, message=error.message)
    return Inspection(
        file_type="jsonl",
        format=DatasetFormat.unknown,
        rows=0,
        bad_rows=1,
        problems=[problem],
        columns=[],
        sample=[],
    )


async def _lock_version(session: AsyncSession, row: DatasetRow) -> None:
    """Waits for jobs that are being stored with this version: each holds its row until the commit. Without the wait a
    job could be stored after the look at who uses the version and lose its data set to the delete."""
    await session.execute(text("SELECT 1 FROM datasets WHERE id = :id FOR UPDATE"), {"id": row.id})


async def _lock_content(session: AsyncSession, sha256: str) -> None:
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:sha, 1))"), {"sha": sha256})
