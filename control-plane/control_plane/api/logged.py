"""The request log over REST, and data sets made out of it."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from control_plane.api.context import Here, Reader, Writer
from control_plane.api.pages import FromQuery, Limit, NumberCursor, ProjectQuery, Text, ToQuery, answer, next_cursor
from control_plane.api.requests import StrictRoute
from control_plane.datasets.from_requests import collect
from control_plane.hints import DATASETS
from control_plane.usage import request_log
from imts_shared.contracts.datasets import Dataset
from imts_shared.contracts.usage import LoggedRequestPage, RequestsDatasetRequest

router = APIRouter(prefix="/api", route_class=StrictRoute)


@router.get(
    "/requests",
    response_model=LoggedRequestPage,
    tags=["usage"],
    operation_id="list_requests",
    summary="List logged requests, newest first",
)
async def list_requests(
    here: Here,
    caller: Reader,
    model: Annotated[Text | None, Query(description="The model that answered.")] = None,
    asked: Annotated[Text | None, Query(description="The name that was asked for: a model's or a route's.")] = None,
    key: Annotated[Text | None, Query(description="A key's id.")] = None,
    since: FromQuery = None,
    until: ToQuery = None,
    content: Annotated[bool, Query(description="With what was said, where the project keeps that.")] = False,
    project: ProjectQuery = None,
    cursor: NumberCursor = "",
    limit: Limit = 100,
) -> Response:
    """What a project keeps of its requests: see its requestLog."""
    filters = request_log.Filters(caller.reads_in(project), model, asked, key, since, until)
    async with here.database.transaction() as session:
        rows = await request_log.find(session, filters, int(cursor or 0), limit, content=content)
    items = [request_log.logged_answer(row, content=content) for row in rows]
    return answer(
        LoggedRequestPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].number if rows else None))
    )


@router.post(
    "/datasets/from-requests",
    response_model=Dataset,
    status_code=201,
    responses={
        200: {"model": Dataset, "description": "This content is already a version of that name."},
        202: {"model": Dataset, "description": "Kept, but not checked yet: the analyzer is away. No job may use it."},
        507: {"description": "The file storage is full."},
    },
    tags=["data sets"],
    operation_id="dataset_from_requests",
    summary="Make a data set out of logged requests",
)
async def dataset_from_requests(here: Here, caller: Writer, request: RequestsDatasetRequest) -> Response:
    """A conversation a line, the model's answer at its end. Only requests whose project keeps them in full."""
    upload = await collect(here.database, here.storage, request, caller, here.settings.max_upload_bytes)
    kept = await here.datasets.keep(upload, caller)
    here.hints.send(DATASETS)
    unchecked = kept.dataset.state == "unchecked"
    return answer(kept.dataset, 202 if unchecked else 201 if kept.created else 200)
