"""What inference workers and gateways say and ask, with the services' key."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from control_plane.api.context import Here
from control_plane.api.internal import services_only
from control_plane.api.pages import answer
from control_plane.api.requests import ReportRoute
from control_plane.database import parse_id
from control_plane.deployments import idle
from control_plane.deployments.leases import assign
from control_plane.deployments.settling import lock
from control_plane.deployments.sync import sync
from control_plane.jobs.transitions import Changes
from control_plane.problems import not_found
from imts_shared.contracts.serving import Snapshot, SyncAnswer, SyncRequest

router = APIRouter(
    prefix="/internal", tags=["internal"], route_class=ReportRoute, dependencies=[Depends(services_only)]
)


@router.post("/deployments/sync", response_model=SyncAnswer, operation_id="sync_deployments")
async def sync_deployments(here: Here, said: SyncRequest) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        told = await sync(session, said, changes)
    changes.send(here.hints)
    return answer(told)


@router.post("/deployments/{deployment_id}/wake", status_code=204, operation_id="wake_deployment")
async def wake_deployment(here: Here, deployment_id: Annotated[str, Path(max_length=100)]) -> Response:
    """A gateway holds a request for it."""
    changes = Changes()
    async with here.database.transaction() as session:
        identity = parse_id(deployment_id)
        row = await lock(session, identity) if identity is not None else None
        if row is None:
            raise not_found("deployment", deployment_id)
        await idle.wake(session, row, changes)
        await assign(session, changes)
    changes.send(here.hints)
    return Response(status_code=204)


@router.get("/gateway/snapshot", response_model=Snapshot, operation_id="gateway_snapshot")
async def gateway_snapshot(
    here: Here,
    version: Annotated[str | None, Query(max_length=100)] = None,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for another version.")] = 0,
) -> Response:
    return answer(await here.snapshots.other_than(version, wait))
