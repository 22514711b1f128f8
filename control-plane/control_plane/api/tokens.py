"""Projects' tokens over REST. Values go in and never come out."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from control_plane.api.context import Here, Reader, Writer
from control_plane.api.pages import answer
from control_plane.api.requests import StrictRoute
from control_plane.tokens import service
from control_plane.tokens.sealing import Sealer
from imts_shared.contracts.base import ProjectName
from imts_shared.contracts.tokens import Token, TokenName, TokenPage, TokenRequest

router = APIRouter(prefix="/api/projects/{project}/tokens", tags=["tokens"], route_class=StrictRoute)

InProject = Annotated[ProjectName, Path(description="A project's name.")]
Named = Annotated[
    TokenName, Path(description="huggingface, modelscope or wandb, or reward:NAME for the header of reward NAME.")
]


@router.put("/{name}", response_model=Token, operation_id="set_token", summary="Set a token of a project")
async def set_token(here: Here, caller: Writer, project: InProject, name: Named, request: TokenRequest) -> Response:
    caller.reads_in(project)
    value = request.value.get_secret_value()
    async with here.database.transaction() as session:
        token = await service.put(session, project, name, value, caller, Sealer.of(here.settings))
    return answer(token)


@router.get("", response_model=TokenPage, operation_id="list_tokens", summary="List the tokens of a project")
async def list_tokens(here: Here, caller: Reader, project: InProject) -> Response:
    caller.reads_in(project)
    async with here.database.transaction() as session:
        items = await service.find(session, project, Sealer.of(here.settings))
    return answer(TokenPage(items=items))


@router.delete("/{name}", status_code=204, operation_id="delete_token", summary="Delete a token of a project")
async def delete_token(here: Here, caller: Writer, project: InProject, name: Named) -> Response:
    caller.reads_in(project)
    async with here.database.transaction() as session:
        await service.remove(session, project, name)
    return Response(status_code=204)
