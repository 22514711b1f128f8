"""Training sweeps over REST."""

from fastapi import APIRouter, Response

from control_plane.api.context import Here, Reader, Writer
from control_plane.api.jobs import IdempotencyKey, Responses
from control_plane.api.pages import IdCursor, Limit, ProjectQuery, answer, next_cursor
from control_plane.api.requests import StrictRoute
from control_plane.hints import SWEEPS
from control_plane.sweeps import service
from imts_shared.contracts.sweeps import Sweep, SweepPage, SweepRequest

CREATED: Responses = {200: {"model": Sweep, "description": "The same Idempotency-Key made this sweep before."}}

router = APIRouter(prefix="/api/training/sweeps", tags=["training sweeps"], route_class=StrictRoute)


@router.post(
    "",
    response_model=Sweep,
    status_code=201,
    responses=CREATED,
    operation_id="submit_sweep",
    summary="Submit many training jobs that differ in a few fields",
)
async def submit_sweep(here: Here, caller: Writer, request: SweepRequest, key: IdempotencyKey = None) -> Response:
    row, created = await service.make(here.database, here.references, request, caller, key)
    here.hints.send(SWEEPS)
    async with here.database.transaction() as session:
        made = await service.answer_of(session, row)
    headers = {"Location": f"/api/training/sweeps/{row.id}"}
    if not created:
        headers["Idempotent-Replay"] = "true"
    return answer(made, 201 if created else 200, headers)


@router.get("", response_model=SweepPage, operation_id="list_sweeps", summary="List sweeps, newest first")
async def list_sweeps(
    here: Here, caller: Reader, project: ProjectQuery = None, cursor: IdCursor = None, limit: Limit = 50
) -> Response:
    async with here.database.transaction() as session:
        rows = await service.find(session, caller.reads_in(project), cursor, limit)
        items = await service.summaries(session, rows)
    return answer(SweepPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].id if rows else None)))


@router.get("/{sweep_id}", response_model=Sweep, operation_id="get_sweep", summary="Show a sweep, best trials first")
async def get_sweep(here: Here, caller: Reader, sweep_id: str) -> Response:
    async with here.database.transaction() as session:
        row = await service.get(session, sweep_id, caller.project)
        return answer(await service.answer_of(session, row))


@router.post("/{sweep_id}/stop", response_model=Sweep, operation_id="stop_sweep", summary="Stop a sweep and its jobs")
async def stop_sweep(here: Here, caller: Writer, sweep_id: str) -> Response:
    async with here.database.transaction() as session:
        row = await service.stop(session, sweep_id, caller.project)
        stopped = await service.answer_of(session, row)
    here.hints.send(SWEEPS)
    return answer(stopped)


@router.delete(
    "/{sweep_id}",
    status_code=204,
    operation_id="delete_sweep",
    summary="Delete a sweep that has ended; its jobs stay",
)
async def delete_sweep(here: Here, caller: Writer, sweep_id: str) -> Response:
    async with here.database.transaction() as session:
        await service.remove(session, sweep_id, caller.project)
    return Response(status_code=204)
