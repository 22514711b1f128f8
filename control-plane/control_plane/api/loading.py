"""Models loaded and unloaded over REST: the same deployments, asked for by the model."""

from fastapi import APIRouter, Response

from control_plane.api.context import Here, Reader, Writer
from control_plane.api.deployments import deploy
from control_plane.api.jobs import Responses
from control_plane.api.models import Named
from control_plane.api.pages import answer
from control_plane.api.requests import StrictRoute
from control_plane.deployments import loading
from control_plane.deployments.answers import deployment_answer
from control_plane.jobs.transitions import Changes
from imts_shared.contracts.deployments import Deployment, DeploymentRequest, ModelStatus

router = APIRouter(prefix="/api/models", tags=["models"], route_class=StrictRoute)

THERE: Responses = {200: {"model": Deployment, "description": "Its deployment was there; it is started."}}


@router.post(
    "/{model:path}/load",
    response_model=Deployment,
    status_code=201,
    responses=THERE,
    operation_id="load_model",
    summary="Deploy it, or start its deployment",
)
async def load(here: Here, caller: Writer, model: Named) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        project = await loading.project_of(session, caller.project, model)
        _, there = await loading.deployed(session, project, model)
        started = None
        if there:
            row = await loading.start_again(session, there, changes)
            started = await deployment_answer(session, row)
    changes.send(here.hints)
    if started is not None:
        return answer(started, 200, {"Location": f"/api/deployments/{started.id}"})
    told, made = await deploy(here, caller, DeploymentRequest(model=model), project)
    return answer(told, 201 if made else 200, {"Location": f"/api/deployments/{told.id}"})


@router.post(
    "/{model:path}/unload",
    response_model=Deployment,
    operation_id="unload_model",
    summary="Stop its deployments; an adapter leaves its base's engine",
)
async def unload(here: Here, caller: Writer, model: Named) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        project = await loading.project_of(session, caller.project, model)
        row = await loading.unload(session, project, model, changes)
        told = await deployment_answer(session, row)
    changes.send(here.hints)
    return answer(told)


@router.get(
    "/{model:path}/status",
    response_model=ModelStatus,
    operation_id="model_status",
    summary="Whether it is served, and where",
)
async def status(here: Here, caller: Reader, model: Named) -> Response:
    async with here.database.transaction() as session:
        project = await loading.project_of(session, caller.project, model)
        return answer(await loading.status(session, project, model))
