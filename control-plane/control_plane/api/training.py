"""What is said of a training job before it is one."""

from fastapi import APIRouter

from control_plane.api.context import Here, Writer
from control_plane.api.requests import StrictRoute
from control_plane.jobs.service import NewJob
from imts_shared.contracts.jobs import JobKind
from imts_shared.contracts.training import CheckRequest, TrainingRequest

router = APIRouter(prefix="/api/training", tags=["training jobs"], route_class=StrictRoute)


@router.post(
    "/resolve",
    response_model=CheckRequest,
    operation_id="resolve_training_job",
    summary="A training job with its data sets and models as they are now; nothing is submitted",
)
async def resolve(here: Here, caller: Writer, request: TrainingRequest) -> CheckRequest:
    new = NewJob.from_request(JobKind.training, request, caller)
    return await here.references.training_request(new.project, new.spec)
