"""Models over REST."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from control_plane.api.context import Context, Here, Reader, Writer
from control_plane.api.pages import IdCursor, Limit, ProjectQuery, Text, answer, next_cursor
from control_plane.api.requests import StrictRoute
from control_plane.hints import MODELS
from control_plane.models import finding, manifest, service
from control_plane.models.lineage import lineage_of
from control_plane.models.rows import ModelRow
from imts_shared.contracts.models import (
    Lineage,
    Model,
    ModelChange,
    ModelFiles,
    ModelKind,
    ModelPage,
    ModelRequest,
    Verification,
)

router = APIRouter(prefix="/api/models", tags=["models"], route_class=StrictRoute)

_VERIFIERS = ThreadPoolExecutor(2, "verify")
"""Threads of their own: reading a large model takes minutes, in which other files must still be reached."""

Named = Annotated[str, Path(description="A model's id, a name (its newest version), or name@version.")]
Kinds = Annotated[list[ModelKind] | None, Query(alias="kind", description="May be given several times.")]


@router.post(
    "", response_model=Model, status_code=201, operation_id="register_model", summary="Register a base model by name"
)
async def register_model(here: Here, caller: Writer, request: ModelRequest) -> Response:
    async with here.database.transaction() as session:
        model = finding.model_answer(await service.add_base(session, request, caller))
    here.hints.send(MODELS)
    return answer(model, 201, {"Location": f"/api/models/{model.id}"})


@router.get("", response_model=ModelPage, operation_id="list_models", summary="List models, newest first")
async def list_models(
    here: Here,
    caller: Reader,
    text: Annotated[Text | None, Query(description="Part of the name.")] = None,
    kinds: Kinds = None,
    job_id: Annotated[UUID | None, Query(alias="jobId", description="Only what this job made.")] = None,
    project: ProjectQuery = None,
    cursor: IdCursor = None,
    limit: Limit = 50,
) -> Response:
    filters = finding.Filters(caller.reads_in(project), text, kinds or (), job_id)
    async with here.database.transaction() as session:
        rows = await finding.find(session, filters, cursor, limit)
    items = [finding.model_answer(row) for row in rows]
    return answer(ModelPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].id if rows else None)))


async def _found(here: Context, named: str, project: str | None) -> ModelRow:
    async with here.database.transaction() as session:
        return await finding.get_model(session, project, named)


@router.get("/{model}", response_model=Model, operation_id="get_model", summary="Show a model")
async def get_model(here: Here, caller: Reader, model: Named) -> Response:
    return answer(finding.model_answer(await _found(here, model, caller.project)))


@router.patch("/{model}", response_model=Model, operation_id="change_model", summary="Change its template or trust")
async def change_model(here: Here, caller: Writer, model: Named, request: ModelChange) -> Response:
    async with here.database.transaction() as session:
        changed = finding.model_answer(await service.change(session, model, request, caller))
    here.hints.send(MODELS)
    return answer(changed)


@router.delete(
    "/{model}",
    status_code=204,
    operation_id="delete_model",
    summary="Delete a model that no job reads and no other model was made with",
)
async def delete_model(here: Here, caller: Writer, model: Named) -> Response:
    async with here.database.transaction() as session:
        await service.remove(session, model, caller)
    here.hints.send(MODELS)
    return Response(status_code=204)


@router.get(
    "/{model}/lineage",
    response_model=Lineage,
    operation_id="model_lineage",
    summary="The job, configuration, data sets and models it came from, and what was made from it",
)
async def model_lineage(here: Here, caller: Reader, model: Named) -> Response:
    async with here.database.transaction() as session:
        row = await finding.get_model(session, caller.project, model)
        return answer(await lineage_of(session, row))


@router.get(
    "/{model}/card",
    operation_id="model_card",
    summary="Its model card",
    response_class=Response,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}, "description": "Markdown."}},
)
async def model_card(here: Here, caller: Reader, model: Named) -> Response:
    async with here.database.transaction() as session:
        row = await finding.get_model(session, caller.project, model)
        card = await finding.card_of(session, row)
    return Response(card, media_type="text/markdown; charset=utf-8")


@router.get("/{model}/files", response_model=ModelFiles, operation_id="model_files", summary="Its files with hashes")
async def model_files(here: Here, caller: Reader, model: Named) -> Response:
    row = await _found(here, model, caller.project)
    return answer(ModelFiles(items=await asyncio.to_thread(manifest.files_of, here.storage, row)))


@router.get(
    "/{model}/files/{path:path}",
    operation_id="download_model_file",
    summary="One of its files",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The file."}},
)
async def download_model_file(here: Here, caller: Reader, model: Named, path: str) -> Response:
    row = await _found(here, model, caller.project)
    key, size = await asyncio.to_thread(manifest.listed_file, here.storage, row, path)
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(path.rsplit('/', 1)[-1])}",
    }
    return StreamingResponse(here.storage.stream(key), headers=headers, media_type="application/octet-stream")


@router.post(
    "/{model}/verify",
    response_model=Verification,
    operation_id="verify_model",
    summary="Compare every stored file with the manifest",
)
async def verify_model(here: Here, caller: Writer, model: Named) -> Response:
    row = await _found(here, model, caller.project)
    loop = asyncio.get_running_loop()
    return answer(await loop.run_in_executor(_VERIFIERS, manifest.verify, here.storage, row))
