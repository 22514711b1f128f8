"""What workers say: an attempt speaks by its own token, a worker announces itself by the services' key."""

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from control_plane.api.context import Bearer, Here
from control_plane.api.pages import answer
from control_plane.api.requests import ReportRoute
from control_plane.jobs import attempts
from control_plane.jobs.transitions import Changes
from control_plane.problems import Refusal
from control_plane.workers import service as workers
from imts_shared.contracts.internal import ClaimAnswer, ClaimRequest, ReportAnswer, ReportRequest, WorkerBeat

router = APIRouter(prefix="/internal", tags=["internal"], route_class=ReportRoute)
WorkerId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,200}$")]


async def services_only(here: Here, credentials: Bearer) -> None:
    given = credentials.credentials if credentials else ""
    if not hmac.compare_digest(given.encode(), here.settings.service_key.get_secret_value().encode()):
        raise Refusal(401, "wrong_service_key", "Only the platform's own services may call this.")


async def _token(credentials: Bearer) -> str:
    if credentials is None:
        raise Refusal(401, "no_token", "An attempt's token is needed here.")
    return credentials.credentials


Token = Annotated[str, Depends(_token)]


@router.post("/jobs/{job_id}/claim", response_model=ClaimAnswer, operation_id="claim_attempt")
async def claim(here: Here, token: Token, job_id: str, request: ClaimRequest) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        claimed = await attempts.claim(session, job_id, token, request, changes)
    changes.send(here.hints)
    return answer(claimed)


@router.post("/jobs/{job_id}/reports", response_model=ReportAnswer, operation_id="report_attempt")
async def report(here: Here, token: Token, job_id: str, request: ReportRequest) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        taken = await attempts.report(session, job_id, token, request, changes)
    changes.send(here.hints)
    return answer(taken)


@router.put("/workers/{worker_id}", status_code=204, operation_id="worker_beat", dependencies=[Depends(services_only)])
async def beat(here: Here, worker_id: WorkerId, said: WorkerBeat) -> Response:
    if said.worker_id != worker_id:
        raise Refusal(422, "other_worker", "workerId is not the one in the path.", field="workerId")
    changes = Changes()
    async with here.database.statements() as session:
        await workers.beat(session, worker_id, said, changes)
    changes.send(here.hints)
    return Response(status_code=204)


@router.delete(
    "/workers/{worker_id}", status_code=204, operation_id="worker_leaves", dependencies=[Depends(services_only)]
)
async def leave(here: Here, worker_id: WorkerId) -> Response:
    async with here.database.transaction() as session:
        await workers.leave(session, worker_id)
    return Response(status_code=204)
