"""Deployments over REST."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from control_plane.access.caller import Caller
from control_plane.api.context import Context, Here, Reader, Writer
from control_plane.api.jobs import LabelQuery, Responses, labels_of
from control_plane.api.pages import IdCursor, Limit, NumberCursor, ProjectQuery, Text, answer, next_cursor
from control_plane.api.requests import StrictRoute
from control_plane.deployments import adapters, changing, events, finding, making
from control_plane.deployments.answers import deployment_answer, deployment_answers, metrics_answer
from control_plane.deployments.rows import DeploymentRow
from control_plane.jobs.transitions import Changes
from imts_shared.contracts.deployments import (
    AdapterRequest,
    Deployment,
    DeploymentChange,
    DeploymentEvents,
    DeploymentLines,
    DeploymentMetrics,
    DeploymentPage,
    DeploymentRequest,
    DeploymentState,
    Engine,
    ScaleRequest,
)

router = APIRouter(prefix="/api/deployments", tags=["deployments"], route_class=StrictRoute)

Named = Annotated[str, Path(description="A deployment's id or name.", max_length=200)]
States = Annotated[list[DeploymentState] | None, Query(alias="state", description="May be given several times.")]
JOINED: Responses = {
    200: {"model": Deployment, "description": "An adapter was added to a running deployment of its base."}
}


async def deploy(here: Context, caller: Caller, request: DeploymentRequest, project: str) -> tuple[Deployment, bool]:
    """The deployment, and whether it is new. The engine's own check stands between two transactions."""
    changes = Changes()
    async with here.database.transaction() as session:
        planned = await making.plan(session, request, project)
    said = await here.engines.check(planned.engine, request.engine_args)
    async with here.database.transaction() as session:
        row, made = await making.deploy(session, planned, caller, changes, said)
        told = await deployment_answer(session, row)
    changes.send(here.hints)
    return told, made


@router.post(
    "",
    response_model=Deployment,
    status_code=201,
    responses=JOINED,
    operation_id="create_deployment",
    summary="Serve a model; an adapter goes into a running engine of its base where there is one",
)
async def create(here: Here, caller: Writer, request: DeploymentRequest) -> Response:
    told, made = await deploy(here, caller, request, caller.writes_in(request.project))
    return answer(told, 201 if made else 200, {"Location": f"/api/deployments/{told.id}"})


@router.get(
    "", response_model=DeploymentPage, operation_id="list_deployments", summary="List deployments, newest first"
)
async def listed(
    here: Here,
    caller: Reader,
    states: States = None,
    model: Annotated[Text | None, Query(description="As a deployment or an adapter names it, or its id.")] = None,
    labels: LabelQuery = None,
    project: ProjectQuery = None,
    cursor: IdCursor = None,
    limit: Limit = 50,
) -> Response:
    filters = finding.Filters(caller.reads_in(project), states or (), model, labels_of(labels))
    async with here.database.transaction() as session:
        rows = await finding.find(session, filters, cursor, limit)
        items = await deployment_answers(session, rows)
    return answer(DeploymentPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].id if rows else None)))


@router.get("/{deployment}", response_model=Deployment, operation_id="get_deployment", summary="Show a deployment")
async def show(here: Here, caller: Reader, deployment: Named) -> Response:
    async with here.database.transaction() as session:
        row = await finding.get(session, caller.project, deployment)
        return answer(await deployment_answer(session, row))


@router.patch(
    "/{deployment}",
    response_model=Deployment,
    operation_id="change_deployment",
    summary="Change it; a new model, engineArgs, gpu or port comes up beside the old version before it takes over",
)
async def change(here: Here, caller: Writer, deployment: Named, request: DeploymentChange) -> Response:
    async with here.database.transaction() as session:
        row = await finding.get_to_change(session, caller.project, deployment)
        following = await changing.next_version(session, row, request)
    if following.differs:
        await here.engines.check(Engine(following.fields["engine"]), following.fields["engine_args"])
    changes = Changes()
    async with here.database.transaction() as session:
        row = await finding.get_to_change(session, caller.project, deployment)
        await changing.change(session, row, request, changes)
        changed = await deployment_answer(session, row)
    changes.send(here.hints)
    return answer(changed)


@router.delete(
    "/{deployment}",
    status_code=204,
    operation_id="delete_deployment",
    summary="Delete it; its engines end their running requests",
)
async def delete(here: Here, caller: Writer, deployment: Named) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        await changing.remove(session, caller.project, deployment, changes)
    changes.send(here.hints)
    return Response(status_code=204)


@router.post(
    "/{deployment}/scale", response_model=Deployment, operation_id="scale_deployment", summary="Set its replicas"
)
async def scale(here: Here, caller: Writer, deployment: Named, request: ScaleRequest) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        row = await finding.get_to_change(session, caller.project, deployment)
        await changing.scale(session, row, request.replicas, changes)
        scaled = await deployment_answer(session, row)
    changes.send(here.hints)
    return answer(scaled)


@router.post(
    "/{deployment}/stop",
    response_model=Deployment,
    operation_id="stop_deployment",
    summary="End its engines; it keeps its name, and can be started again",
)
async def stop(here: Here, caller: Writer, deployment: Named) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        row = await finding.get_to_change(session, caller.project, deployment)
        await changing.stop(session, row, changes)
        stopped = await deployment_answer(session, row)
    changes.send(here.hints)
    return answer(stopped)


@router.post(
    "/{deployment}/start",
    response_model=Deployment,
    operation_id="start_deployment",
    summary="Start one that was stopped, sleeps or has failed",
)
async def start(here: Here, caller: Writer, deployment: Named) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        row = await finding.get_to_change(session, caller.project, deployment)
        await changing.start(session, row, changes)
        started = await deployment_answer(session, row)
    changes.send(here.hints)
    return answer(started)


@router.post(
    "/{deployment}/adapters",
    response_model=Deployment,
    status_code=201,
    responses={200: {"model": Deployment, "description": "It is there already."}},
    operation_id="add_adapter",
    summary="Load an adapter into its running engines",
)
async def add_adapter(here: Here, caller: Writer, deployment: Named, request: AdapterRequest) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        row = await finding.get_to_change(session, caller.project, deployment)
        made = await adapters.add(session, row, request, changes)
        told = await deployment_answer(session, row)
    changes.send(here.hints)
    return answer(told, 201 if made else 200, {"Location": f"/api/deployments/{told.id}"})


@router.delete(
    "/{deployment}/adapters/{name}",
    status_code=204,
    operation_id="remove_adapter",
    summary="Take an adapter out of its running engines",
)
async def remove_adapter(
    here: Here, caller: Writer, deployment: Named, name: Annotated[str, Path(max_length=200)]
) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        row = await finding.get_to_change(session, caller.project, deployment)
        await adapters.take_out(session, row, name, changes)
    changes.send(here.hints)
    return Response(status_code=204)


async def _found(here: Context, caller: Caller, named: str) -> DeploymentRow:
    async with here.database.transaction() as session:
        return await finding.get(session, caller.project, named)


@router.get(
    "/{deployment}/logs",
    response_model=DeploymentLines,
    operation_id="deployment_logs",
    summary="The newest lines of its engines, oldest first",
)
async def logs(
    here: Here,
    caller: Reader,
    deployment: Named,
    revision: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    replica: Annotated[int | None, Query(ge=0, le=63)] = None,
    cursor: NumberCursor = "",
    limit: Annotated[int, Query(ge=1, le=5_000)] = 500,
) -> Response:
    row = await _found(here, caller, deployment)
    async with here.database.transaction() as session:
        items = await events.read_lines(session, row.id, int(cursor or 0), limit, revision, replica)
    return answer(DeploymentLines(items=items, next_cursor=next_cursor(items, limit, items[-1].seq if items else None)))


@router.get(
    "/{deployment}/metrics",
    response_model=DeploymentMetrics,
    operation_id="deployment_metrics",
    summary="What its engines count",
)
async def metrics(here: Here, caller: Reader, deployment: Named) -> Response:
    row = await _found(here, caller, deployment)
    async with here.database.transaction() as session:
        return answer(await metrics_answer(session, row))


@router.get(
    "/{deployment}/events",
    response_model=DeploymentEvents,
    operation_id="deployment_events",
    summary="What has happened to it, oldest first",
)
async def happened(
    here: Here,
    caller: Reader,
    deployment: Named,
    types: Annotated[
        list[events.EventKind] | None, Query(alias="type", description="May be given several times.")
    ] = None,
    cursor: NumberCursor = "",
    limit: Limit = 100,
) -> Response:
    row = await _found(here, caller, deployment)
    after = min(int(cursor or 0), 2_000_000_000)
    async with here.database.transaction() as session:
        items = await events.read(session, row.id, after, limit, types or ())
    return answer(
        DeploymentEvents(items=items, next_cursor=next_cursor(items, limit, items[-1].seq if items else None))
    )
