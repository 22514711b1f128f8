"""A job's checkpoints over REST."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from control_plane.api.context import Here, Reader, Writer
from control_plane.api.pages import answer
from control_plane.api.requests import StrictRoute
from control_plane.hints import MODELS
from control_plane.jobs import service as jobs
from control_plane.models import checkpoints
from control_plane.models.finding import model_answer
from imts_shared.contracts.models import CheckpointList, Model, PromoteRequest

router = APIRouter(prefix="/api/jobs", tags=["models"], route_class=StrictRoute)

Step = Annotated[int, Path(ge=0, le=2**63 - 1)]


@router.get(
    "/{job_id}/checkpoints",
    response_model=CheckpointList,
    operation_id="job_checkpoints",
    summary="A job's checkpoints that are kept, newest first",
)
async def job_checkpoints(here: Here, caller: Reader, job_id: str) -> Response:
    async with here.database.transaction() as session:
        row = await jobs.get(session, job_id, caller.project)
        return answer(CheckpointList(items=await checkpoints.listed(session, row)))


@router.post(
    "/{job_id}/checkpoints/{step}/promote",
    response_model=Model,
    status_code=201,
    responses={200: {"model": Model, "description": "The checkpoint is this model already."}},
    operation_id="promote_checkpoint",
    summary="Make a checkpoint a model, which keeps its files",
)
async def promote_checkpoint(
    here: Here, caller: Writer, job_id: str, step: Step, request: PromoteRequest | None = None
) -> Response:
    asked = request or PromoteRequest()
    async with here.database.transaction() as session:
        row, created = await checkpoints.promote(session, here.storage, job_id, step, asked, caller)
        model = model_answer(row)
    here.hints.send(MODELS)
    return answer(model, 201 if created else 200, {"Location": f"/api/models/{model.id}"})
