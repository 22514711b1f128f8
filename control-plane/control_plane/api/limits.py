"""Limits of keys and projects over REST, and what is kept of a project's requests."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from control_plane.access import projects
from control_plane.api.context import Admin, AnyCaller, Here, Reader
from control_plane.api.pages import answer
from control_plane.api.requests import StrictRoute
from control_plane.hints import KEYS, PROJECTS
from control_plane.problems import not_found
from control_plane.usage import limits
from imts_shared.contracts.access import Project, RequestLogRequest, Role
from imts_shared.contracts.base import ProjectName
from imts_shared.contracts.limits import Limits, LimitsAnswer

router = APIRouter(prefix="/api", tags=["keys and projects"], route_class=StrictRoute)

KeyId = Annotated[str, Path(max_length=100, description="A key's id.")]
InProject = Annotated[ProjectName, Path(description="A project's name.")]


@router.get(
    "/keys/{key_id}/limits", response_model=LimitsAnswer, operation_id="get_key_limits", summary="A key's limits"
)
async def get_key_limits(here: Here, caller: AnyCaller, key_id: KeyId) -> Response:
    """With what it has spent in the running period of its budget. Every key may ask for its own."""
    async with here.database.transaction() as session:
        row = await limits.key_row(session, key_id)
        if caller.role != Role.admin and row.id != caller.key_id:
            raise not_found("key", key_id)
        return answer(await limits.limits_answer(session, row))


@router.put(
    "/keys/{key_id}/limits", response_model=LimitsAnswer, operation_id="set_key_limits", summary="Set a key's limits"
)
async def set_key_limits(here: Here, _caller: Admin, key_id: KeyId, request: Limits) -> Response:
    """All of them: one that is not named is lifted. They hold on every gateway within two seconds."""
    async with here.database.transaction() as session:
        row = await limits.key_row(session, key_id, lock=True)
        limits.put(row, request)
        await session.flush()
        said = await limits.limits_answer(session, row)
    here.hints.send(KEYS)
    return answer(said)


@router.get(
    "/projects/{name}/limits",
    response_model=LimitsAnswer,
    operation_id="get_project_limits",
    summary="A project's limits",
)
async def get_project_limits(here: Here, caller: Reader, name: InProject) -> Response:
    """They hold for all of its keys together, besides each key's own."""
    caller.reads_in(name)
    async with here.database.transaction() as session:
        return answer(await limits.limits_answer(session, await limits.project_row(session, name)))


@router.put(
    "/projects/{name}/limits",
    response_model=LimitsAnswer,
    operation_id="set_project_limits",
    summary="Set a project's limits",
)
async def set_project_limits(here: Here, _caller: Admin, name: InProject, request: Limits) -> Response:
    """All of them: one that is not named is lifted. They hold on every gateway within two seconds."""
    async with here.database.transaction() as session:
        row = await limits.project_row(session, name, lock=True)
        limits.put(row, request)
        await session.flush()
        said = await limits.limits_answer(session, row)
    here.hints.send(PROJECTS)
    return answer(said)


@router.put(
    "/projects/{name}/requestLog",
    response_model=Project,
    operation_id="set_request_log",
    summary="Choose what is kept of a project's requests",
)
async def set_request_log(here: Here, _caller: Admin, name: InProject, request: RequestLogRequest) -> Response:
    async with here.database.transaction() as session:
        project = await projects.set_request_log(session, name, request.level)
    here.hints.send(PROJECTS)
    return answer(project)
