"""Finding data sets: one by any of its names, many by filters, and what is wrong with one."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, exists, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, defer
from sqlmodel import col

from control_plane.database import parse_id
from control_plane.datasets.rows import DatasetRow
from imts_shared.contracts.datasets import Dataset, DatasetFormat, RowProblem
from imts_shared.contracts.inputs import DatasetInput


def light_rows() -> Select[DatasetRow]:
    """Rows without what can be megabytes of problems each."""
    return select(DatasetRow).options(
        defer(DatasetRow.problems, raiseload=True),  # type: ignore[arg-type]
        defer(DatasetRow.sample, raiseload=True),  # type: ignore[arg-type]
    )


async def find_version(session: AsyncSession, project: str | None, named: str) -> DatasetRow | None:
    """A version by its id, by `name` (the newest) or by `name@3`."""
    query = light_rows()
    if project is not None:
        query = query.where(col(DatasetRow.project) == project)
    identity = parse_id(named)
    if identity is not None:
        query = query.where(col(DatasetRow.id) == identity)
    else:
        name, _, version = named.partition("@")
        query = query.where(col(DatasetRow.name) == name)
        if version:
            if not (version.isascii() and version.isdigit() and len(version) < 9):
                return None
            query = query.where(col(DatasetRow.version) == int(version))
    row: DatasetRow | None = (
        (await session.execute(query.order_by(col(DatasetRow.version).desc()).limit(1))).scalars().first()
    )
    return row


def dataset_answer(row: DatasetRow) -> Dataset:
    return Dataset(
        id=str(row.id),
        name=row.name,
        version=row.version,
        project=row.project,
        state=row.state,
        format=DatasetFormat(row.format) if row.format else None,
        file_type=row.file_type,
        file_name=row.file_name,
        rows=row.rows,
        bad_rows=row.bad_rows,
        bytes=row.bytes,
        sha256=row.sha256,
        columns=row.columns,
        created_at=row.created_at,
    )


def content_key(sha256: str) -> str:
    """Where a file lies in storage: under its content's hash, so that the same content lies there once."""
    return f"datasets/{sha256[:2]}/{sha256}"


def dataset_input(row: DatasetRow) -> DatasetInput:
    return DatasetInput(
        id=str(row.id),
        name=row.name,
        version=row.version,
        sha256=row.sha256,
        format=row.format or "unknown",
        file_type=row.file_type or "jsonl",
        key=content_key(row.sha256),
        rows=row.rows or 0,
        bytes=row.bytes,
    )


@dataclass
class Filters:
    project: str | None = None
    name: str | None = None
    format: DatasetFormat | None = None
    all_versions: bool = False


async def find(session: AsyncSession, filters: Filters, before: UUID | None, limit: int) -> Sequence[DatasetRow]:
    query = light_rows().order_by(col(DatasetRow.id).desc()).limit(limit)
    if filters.project is not None:
        query = query.where(col(DatasetRow.project) == filters.project)
    if filters.name is not None:
        query = query.where(func.strpos(func.lower(DatasetRow.name), filters.name.lower()) > 0)
    if filters.format is not None:
        query = query.where(col(DatasetRow.format) == str(filters.format))
    if not filters.all_versions:
        newer = aliased(DatasetRow)
        query = query.where(
            ~exists().where(
                col(newer.project) == col(DatasetRow.project),
                col(newer.name) == col(DatasetRow.name),
                col(newer.version) > col(DatasetRow.version),
            )
        )
    if before is not None:
        query = query.where(col(DatasetRow.id) < before)
    return (await session.execute(query)).scalars().all()


async def versions(session: AsyncSession, row: DatasetRow) -> Sequence[DatasetRow]:
    query = (
        light_rows()
        .where(col(DatasetRow.project) == row.project, col(DatasetRow.name) == row.name)
        .order_by(col(DatasetRow.version).desc())
    )
    return (await session.execute(query)).scalars().all()


async def problems(session: AsyncSession, row: DatasetRow, start: int, limit: int) -> Sequence[RowProblem]:
    """A page of what is wrong, taken out by the database."""
    query = text("""
        SELECT problem FROM datasets, jsonb_array_elements(problems) WITH ORDINALITY AS listed (problem, place)
        WHERE id = :id AND place > :start ORDER BY place LIMIT :limit
    """)
    found = await session.execute(query, {"id": row.id, "start": start, "limit": limit})
    return [RowProblem.model_validate(problem) for problem in found.scalars()]
