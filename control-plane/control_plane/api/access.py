"""Keys and projects over REST."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from control_plane.access import keys, projects
from control_plane.api.context import Admin, AnyCaller, Here, Reader
from control_plane.api.pages import Cursor, IdCursor, Limit, answer, next_cursor
from control_plane.api.requests import StrictRoute
from control_plane.hints import KEYS, PROJECTS, QUEUE, QUOTAS
from imts_shared.contracts.access import (
    Identity,
    Key,
    KeyPage,
    KeyRequest,
    NewKey,
    Project,
    ProjectPage,
    ProjectRequest,
    Quota,
)

router = APIRouter(prefix="/api", tags=["keys and projects"], route_class=StrictRoute)


@router.get("/me", response_model=Identity, operation_id="who_am_i", summary="What the key at hand may do")
async def who_am_i(caller: AnyCaller) -> Response:
    return answer(Identity(key_id=str(caller.key_id), role=caller.role, project=caller.project))


@router.post("/keys", response_model=NewKey, status_code=201, operation_id="create_key", summary="Create an API key")
async def create_key(here: Here, _caller: Admin, request: KeyRequest) -> Response:
    async with here.database.transaction() as session:
        key = await keys.create(session, request)
    here.hints.send(KEYS)
    return answer(key, 201)


@router.get("/keys", response_model=KeyPage, operation_id="list_keys", summary="List the API keys, newest first")
async def list_keys(here: Here, _caller: Admin, cursor: IdCursor = None, limit: Limit = 100) -> Response:
    async with here.database.transaction() as session:
        rows = await keys.find(session, cursor, limit)
    items = [keys.key_answer(row) for row in rows]
    return answer(KeyPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].id if rows else None)))


@router.delete("/keys/{key_id}", response_model=Key, operation_id="revoke_key", summary="Revoke an API key")
async def revoke_key(here: Here, caller: Admin, key_id: str) -> Response:
    async with here.database.transaction() as session:
        key = await keys.revoke(session, key_id, caller)
    here.hints.send(KEYS)
    return answer(key)


@router.post(
    "/projects",
    response_model=Project,
    status_code=201,
    operation_id="create_project",
    summary="Create a project",
)
async def create_project(here: Here, _caller: Admin, request: ProjectRequest) -> Response:
    async with here.database.transaction() as session:
        project = await projects.create(session, request)
    here.hints.send(PROJECTS)
    return answer(project, 201)


@router.get("/projects", response_model=ProjectPage, operation_id="list_projects", summary="List the projects")
async def list_projects(here: Here, caller: Reader, cursor: Cursor = None, limit: Limit = 100) -> Response:
    async with here.database.transaction() as session:
        rows = await projects.find(session, caller.project, cursor, limit)
    items = [projects.project_answer(row) for row in rows]
    return answer(ProjectPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].name if rows else None)))


@router.patch("/projects/{name}", response_model=Project, operation_id="set_quota", summary="Change a project's quotas")
async def set_quota(here: Here, _caller: Admin, name: Annotated[str, Path(max_length=100)], quota: Quota) -> Response:
    async with here.database.transaction() as session:
        project = await projects.set_quota(session, name.replace("\x00", ""), quota)
    here.hints.send(QUOTAS, QUEUE)
    return answer(project)
