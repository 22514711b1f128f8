"""Routes made, found, changed and deleted."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.problems import Refusal, not_found
from control_plane.routing import naming
from control_plane.routing.rows import RouteRow
from imts_shared.contracts.routes import AUTO, Route, RouteRequest, RouteSettings


def route_answer(row: RouteRow) -> Route:
    return Route(
        **RouteSettings.model_validate(row.settings).model_dump(),
        name=row.name,
        project=row.project,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


async def check_settings(session: AsyncSession, project: str, name: str, settings: RouteSettings) -> None:
    """A route chooses among models; models that do not exist yet are left out by the gateway. Hold the names."""
    judge = {settings.judge.model} if settings.judge is not None else set()
    routes = {name, AUTO} | await naming.only_routes(session, project, {*settings.models, *judge})
    for place, model in enumerate(settings.models):
        if model in routes:
            raise Refusal(
                409, "route_in_route", f"{model!r} is a route, not a model.", field=f"models.{place}",
                hint="Name models; with none named the route chooses among all that a caller may ask.",
            )  # fmt: skip
    if settings.judge is not None and settings.judge.model in routes:
        raise Refusal(
            409, "judge_is_route", f"{settings.judge.model!r} is a route: it cannot judge.", field="judge.model",
            hint="Name a model that answers fast.",
        )  # fmt: skip


async def create(session: AsyncSession, request: RouteRequest, project: str) -> Route:
    await naming.hold(session)
    await check_settings(session, project, request.name, request)
    holder = None if request.name == AUTO else await naming.model_holder(session, project, request.name)
    if holder is not None:
        raise Refusal(
            409, "name_taken", f"{request.name!r} is the name of {holder} in project {project!r}.", field="name",
            hint="Give another name: the route would hide the model.",
        )  # fmt: skip
    lister = await naming.route_listing(session, project, request.name)
    if lister is not None:
        raise Refusal(
            409, "route_in_route", f"Route {lister!r} names {request.name!r} as a model: it would get a route.",
            field="name", hint=f"Give another name, or take this one out of {lister!r} first.",
        )  # fmt: skip
    now = await _now(session)
    settings = RouteSettings(**request.model_dump(exclude={"name", "project"}))
    values = {"settings": _stored(settings), "created_at": now, "updated_at": now}
    query = insert(RouteRow).values(project=project, name=request.name, **values)
    try:
        made = (await session.execute(query.on_conflict_do_nothing().returning(RouteRow))).scalar_one_or_none()
    except IntegrityError:
        raise not_found("project", project) from None
    if made is None:
        raise Refusal(
            409, "route_exists", f"Project {project!r} has a route {request.name!r} already.", field="name",
            hint=f"Change it: PUT /api/routes/{request.name}.",
        )  # fmt: skip
    return route_answer(made)


async def find(
    session: AsyncSession, project: str | None, after: tuple[str, str] | None, limit: int
) -> Sequence[RouteRow]:
    query = select(RouteRow).order_by(col(RouteRow.project), col(RouteRow.name)).limit(limit)
    if project is not None:
        query = query.where(col(RouteRow.project) == project)
    if after is not None:
        query = query.where(tuple_(col(RouteRow.project), col(RouteRow.name)) > tuple_(*after))
    return (await session.execute(query)).scalars().all()


async def get(session: AsyncSession, project: str, name: str, *, lock: bool = False) -> RouteRow:
    row = await session.get(RouteRow, (project, name), with_for_update=lock)
    if row is None:
        raise not_found("route", name)
    return row


async def put(session: AsyncSession, project: str, name: str, settings: RouteSettings) -> Route:
    await naming.hold(session)
    row = await get(session, project, name, lock=True)
    await check_settings(session, project, name, settings)
    row.settings = _stored(settings)
    row.updated_at = await _now(session)
    await session.flush()
    return route_answer(row)


async def remove(session: AsyncSession, project: str, name: str) -> None:
    gone = delete(RouteRow).where(col(RouteRow.project) == project, col(RouteRow.name) == name)
    if (await session.execute(gone.returning(col(RouteRow.name)))).one_or_none() is None:
        raise not_found("route", name)


def _stored(settings: RouteSettings) -> dict[str, object]:
    return settings.model_dump(mode="json", by_alias=True)


async def _now(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return now
