"""Finding data sets, and what may be done with them."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.database import parse_id
from control_plane.datasets.rows import DatasetRow
from control_plane.problems import Refusal, nearest
from imts_shared.contracts.jobs import JobKind


def content_key(sha256: str) -> str:
    """Where a file lies in storage: under its content's hash, so that the same content lies there once."""
    return f"datasets/{sha256[:2]}/{sha256}"


async def find_version(session: AsyncSession, project: str | None, named: str) -> DatasetRow | None:
    """A version by its id, by `name` (the newest) or by `name@3`."""
    query = select(DatasetRow)
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
            hint="It is checked as soon as the analyzer answers; look at GET /api/datasets/" + str(row.id),
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
