"""Projects and their quotas."""

from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.rows import ProjectRow, limits_of
from control_plane.problems import Refusal, not_found
from imts_shared.contracts.access import Project, ProjectRequest, Quota, RequestLog


def project_answer(row: ProjectRow) -> Project:
    return Project(
        name=row.name,
        max_running_jobs=row.max_running_jobs,
        max_queued_jobs=row.max_queued_jobs,
        request_log=RequestLog(row.request_log),
        limits=limits_of(row),
        created_at=row.created_at,
    )


async def create(session: AsyncSession, request: ProjectRequest) -> Project:
    created = (
        await session.execute(
            insert(ProjectRow)
            .values(
                **request.model_dump(by_alias=False, exclude={"limits"}),
                limits=None if request.limits is None else request.limits.model_dump(mode="json"),
                created_at=text("clock_timestamp()"),
            )
            .on_conflict_do_nothing()
            .returning(ProjectRow)
        )
    ).scalar_one_or_none()
    if created is None:
        raise Refusal(409, "project_exists", f"Project {request.name!r} is already there.", field="name")
    return project_answer(created)


async def find(session: AsyncSession, only: str | None, after: str | None, limit: int) -> Sequence[ProjectRow]:
    query = select(ProjectRow).order_by(col(ProjectRow.name)).limit(limit)
    if only is not None:
        query = query.where(col(ProjectRow.name) == only)
    if after is not None:
        query = query.where(col(ProjectRow.name) > after)
    return (await session.execute(query)).scalars().all()


async def set_quota(session: AsyncSession, name: str, quota: Quota) -> Project:
    """Changes what the request names; a limit that is given as null is lifted."""
    row = await session.get(ProjectRow, name, with_for_update=True)
    if row is None:
        raise not_found("project", name)
    for limit in quota.model_fields_set:
        setattr(row, limit, getattr(quota, limit))
    return project_answer(row)


async def set_request_log(session: AsyncSession, name: str, level: RequestLog) -> Project:
    row = await session.get(ProjectRow, name, with_for_update=True)
    if row is None:
        raise not_found("project", name)
    row.request_log = str(level)
    return project_answer(row)
