"""Data sets over REST."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from control_plane.api.context import Context, Here, Reader, Writer
from control_plane.api.pages import IdCursor, Limit, NumberCursor, ProjectQuery, Text, answer, next_cursor
from control_plane.datasets import builtin, finding
from control_plane.datasets.analyzer import AnalyzerAway
from control_plane.datasets.rows import DatasetRow
from control_plane.datasets.upload import NAME, receive
from control_plane.hints import DATASETS
from control_plane.problems import Refusal, not_found
from imts_shared.contracts.datasets import (
    Dataset,
    DatasetFormat,
    DatasetPage,
    DatasetPreview,
    ProblemPage,
)

router = APIRouter(prefix="/api/datasets", tags=["data sets"])

KEPT_PROBLEMS = 10_000
Named = Annotated[str, Path(description="A version's id, a name (its newest version), or name@version.")]
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "JSON, JSONL, CSV or Parquet."},
                        "name": {
                            "type": "string",
                            "pattern": f"^{NAME.pattern}$",
                            "description": "Default: the file's own name.",
                        },
                        "format": {"type": "string", "enum": [f for f in DatasetFormat if f != DatasetFormat.unknown]},
                        "project": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


@router.post(
    "",
    response_model=Dataset,
    status_code=201,
    responses={
        200: {"model": Dataset, "description": "This content is already a version of that name."},
        202: {"model": Dataset, "description": "Kept, but not checked yet: the analyzer is away. No job may use it."},
        507: {"description": "The file storage is full."},
    },
    openapi_extra=FORM,
    operation_id="upload_dataset",
    summary="Upload a data set",
)
async def upload_dataset(request: Request, here: Here, caller: Writer) -> Response:
    content_type = request.headers.get("content-type", "")
    try:
        upload = await receive(request.stream(), content_type, here.storage, here.settings.max_upload_bytes)
    except ClientDisconnect:
        return Response(status_code=400)
    kept = await here.datasets.keep(upload, caller)
    here.hints.send(DATASETS)
    unchecked = kept.dataset.state == "unchecked"
    return answer(kept.dataset, 202 if unchecked else 201 if kept.created else 200)


@router.get("", response_model=DatasetPage, operation_id="list_datasets", summary="List data sets, newest first")
async def list_datasets(
    here: Here,
    caller: Reader,
    text: Annotated[Text | None, Query(description="Part of the name.")] = None,
    form: Annotated[DatasetFormat | None, Query(alias="format")] = None,
    all_versions: Annotated[bool, Query(alias="allVersions")] = False,
    project: ProjectQuery = None,
    cursor: IdCursor = None,
    limit: Limit = 50,
) -> Response:
    filters = finding.Filters(caller.reads_in(project), text, form, all_versions)
    async with here.database.transaction() as session:
        rows = await finding.find(session, filters, cursor, limit)
    items = [finding.dataset_answer(row) for row in rows]
    return answer(DatasetPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].id if rows else None)))


async def _found(here: Context, named: str, project: str | None) -> DatasetRow:
    async with here.database.transaction() as session:
        row = await finding.find_version(session, project, named)
        if row is None:
            row = await builtin.bring(session, here.storage, project or "default", named)
    if row is None:
        raise not_found("dataset", named)
    return row


@router.get("/{dataset}", response_model=Dataset, operation_id="get_dataset", summary="Show a data set")
async def get_dataset(here: Here, caller: Reader, dataset: Named) -> Response:
    return answer(finding.dataset_answer(await _found(here, dataset, caller.project)))


@router.get(
    "/{dataset}/versions", response_model=DatasetPage, operation_id="dataset_versions", summary="All its versions"
)
async def dataset_versions(here: Here, caller: Reader, dataset: Named) -> Response:
    row = await _found(here, dataset, caller.project)
    async with here.database.transaction() as session:
        rows = await finding.versions(session, row)
    return answer(DatasetPage(items=[finding.dataset_answer(row) for row in rows]))


@router.get(
    "/{dataset}/problems",
    response_model=ProblemPage,
    operation_id="dataset_problems",
    summary="Its malformed rows by line number and reason",
)
async def dataset_problems(
    here: Here, caller: Reader, dataset: Named, cursor: NumberCursor = "", limit: Limit = 100
) -> Response:
    row = await _found(here, dataset, caller.project)
    start = int(cursor or 0)
    async with here.database.transaction() as session:
        found = await finding.problems(session, row, start, limit + 1)
    more = str(start + limit) if len(found) > limit else None
    return answer(ProblemPage(items=list(found[:limit]), kept=KEPT_PROBLEMS, next_cursor=more))


@router.get("/{dataset}/preview", response_model=DatasetPreview, operation_id="preview_dataset", summary="Some rows")
async def preview_dataset(
    here: Here,
    caller: Reader,
    dataset: Named,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> Response:
    row = await _found(here, dataset, caller.project)
    if row.file_type is None:
        raise Refusal(409, "dataset_not_ready", f"The data set is {row.state}.", hint="Try again once it is checked.")
    try:
        preview = await here.analyzer.preview(finding.content_key(row.sha256), row.file_type, offset, limit)  # type: ignore[arg-type]
    except AnalyzerAway as error:
        raise Refusal(
            503, "analyzer_unavailable", "The analyzer does not answer.", hint="Try again in a few seconds."
        ) from error
    return answer(DatasetPreview(items=preview.rows, offset=offset))


@router.get(
    "/{dataset}/download",
    operation_id="download_dataset",
    summary="The file as it was uploaded",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The file."}},
)
async def download_dataset(here: Here, caller: Reader, dataset: Named) -> Response:
    row = await _found(here, dataset, caller.project)
    headers = {
        "Content-Length": str(row.bytes),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(row.file_name)}",
        "ETag": f'"{row.sha256}"',
    }
    chunks = here.storage.stream(finding.content_key(row.sha256))
    return StreamingResponse(chunks, headers=headers, media_type="application/octet-stream")


@router.delete(
    "/{dataset}", status_code=204, operation_id="delete_dataset", summary="Delete a version that no job uses"
)
async def delete_dataset(here: Here, caller: Writer, dataset: Named) -> Response:
    await here.datasets.delete(dataset, caller.project)
    here.hints.send(DATASETS)
    return Response(status_code=204)
