"""Routes over REST: names whose model the gateway chooses for each request."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from control_plane.access.caller import DEFAULT_PROJECT
from control_plane.api.context import Here, Reader, Writer
from control_plane.api.pages import Cursor, Limit, ProjectQuery, answer, next_cursor
from control_plane.api.requests import StrictRoute
from control_plane.hints import ROUTES
from control_plane.routing import routes
from imts_shared.contracts.routes import Route, RoutePage, RouteRequest, RouteSettings

router = APIRouter(prefix="/api/routes", tags=["routes"], route_class=StrictRoute)
Named = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]+$", description="A route's name.")]


@router.post("", response_model=Route, status_code=201, operation_id="create_route", summary="Make a route")
async def create_route(here: Here, caller: Writer, request: RouteRequest) -> Response:
    """A request whose `model` is the route's name is answered by the model that the gateway chooses, by what it has
    learned. Every project has the route `auto` over all of its models; one made by this name takes its place."""
    project = caller.writes_in(request.project)
    async with here.database.transaction() as session:
        made = await routes.create(session, request, project)
    here.hints.send(ROUTES)
    return answer(made, 201)


@router.get("", response_model=RoutePage, operation_id="list_routes", summary="List routes by project and name")
async def list_routes(
    here: Here, caller: Reader, project: ProjectQuery = None, cursor: Cursor = None, limit: Limit = 100
) -> Response:
    after = None
    if cursor is not None:
        where, _, name = cursor.partition("/")
        after = (where, name)
    async with here.database.transaction() as session:
        rows = await routes.find(session, caller.reads_in(project), after, limit)
    last = f"{rows[-1].project}/{rows[-1].name}" if rows else None
    items = [routes.route_answer(row) for row in rows]
    return answer(RoutePage(items=items, next_cursor=next_cursor(rows, limit, last)))


@router.get("/{name}", response_model=Route, operation_id="get_route", summary="Show a route")
async def get_route(here: Here, caller: Reader, name: Named, project: ProjectQuery = None) -> Response:
    inside = caller.reads_in(project) or DEFAULT_PROJECT
    async with here.database.transaction() as session:
        return answer(routes.route_answer(await routes.get(session, inside, name)))


@router.put("/{name}", response_model=Route, operation_id="set_route", summary="Replace a route's settings")
async def set_route(
    here: Here, caller: Writer, name: Named, settings: RouteSettings, project: ProjectQuery = None
) -> Response:
    """What is not named takes its default. What was learned on the route stays."""
    inside = caller.reads_in(project) or DEFAULT_PROJECT
    async with here.database.transaction() as session:
        changed = await routes.put(session, inside, name, settings)
    here.hints.send(ROUTES)
    return answer(changed)


@router.delete("/{name}", status_code=204, operation_id="delete_route", summary="Delete a route")
async def delete_route(here: Here, caller: Writer, name: Named, project: ProjectQuery = None) -> Response:
    inside = caller.reads_in(project) or DEFAULT_PROJECT
    async with here.database.transaction() as session:
        await routes.remove(session, inside, name)
    here.hints.send(ROUTES)
    return Response(status_code=204)
