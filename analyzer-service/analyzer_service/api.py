"""The analyzer's API: what can be said of a file without a job."""

import asyncio
import time

from fastapi import Depends, Request, Response
from loguru import logger
from obstore.exceptions import BaseError
from prometheus_client import Histogram

from analyzer_service.inspect.elsewhere import InspectionDied, inspect_elsewhere
from analyzer_service.inspect.inspection import inspect, preview
from analyzer_service.settings import settings
from imts_shared.contracts.datasets import Inspection, InspectRequest, PreviewAnswer, PreviewRequest
from imts_shared.service.app import answer, create, problem, services_only
from imts_shared.storage import BadKey, Storage, StorageError

SMALL_FILE = 2 * 2**20
"""Bytes. Such a file is read in a thread; a larger one in a process, so that the api goes on answering."""

LARGE_FILES_AT_ONCE = 2

SECONDS = Histogram("imts_inspect_seconds", "Time to inspect a file.", buckets=(0.01, 0.1, 1, 10, 60, 600))


FAILED = problem(500, "inspection_failed", "The analyzer failed on this file; its log says more.")
"""Asked again, it would fail again: whoever asks must not wait for a better day."""

app = create("analyzer-api", "imts-analyzer-service", settings, failure=FAILED, title="IMTS analyzer")
_service = services_only(settings)
_room_for_large_files = asyncio.Semaphore(LARGE_FILES_AT_ONCE)


def _storage() -> Storage:
    config = settings()
    return Storage(config.storage_url, config.storage_options)


@app.post("/inspect", response_model=Inspection, dependencies=[Depends(_service)], summary="Judge a whole file")
async def inspect_file(request: InspectRequest) -> Inspection:
    started = time.perf_counter()
    storage = _storage()
    size = await asyncio.to_thread(storage.size, request.key)
    if size <= SMALL_FILE:
        found = await asyncio.to_thread(inspect, storage, request.key, request.file_name, request.format)
    else:
        async with _room_for_large_files:
            found = await inspect_elsewhere(request)
    took = time.perf_counter() - started
    SECONDS.observe(took)
    logger.bind(bytes=size, rows=found.rows, bad=found.bad_rows, seconds=round(took, 3)).info("inspected")
    return found


@app.post("/preview", response_model=PreviewAnswer, dependencies=[Depends(_service)], summary="Some rows of a file")
async def preview_file(request: PreviewRequest) -> PreviewAnswer:
    rows = await asyncio.to_thread(preview, _storage(), request.key, request.file_type, request.offset, request.limit)
    return PreviewAnswer(rows=rows)


@app.exception_handler(FileNotFoundError)
async def _no_file(_request: Request, _error: FileNotFoundError) -> Response:
    return answer(problem(404, "no_such_file", "Nothing lies under this key."))


@app.exception_handler(BadKey)
async def _bad_key(_request: Request, _error: BadKey) -> Response:
    return answer(problem(422, "bad_key", "This is not a key of the storage."))


@app.exception_handler(StorageError)
@app.exception_handler(BaseError)
@app.exception_handler(OSError)
async def _away(_request: Request, error: Exception) -> Response:
    logger.bind(error=str(error)[:300]).warning("a file could not be read")
    return answer(problem(503, "storage_unavailable", "The file could not be read now."))


@app.exception_handler(InspectionDied)
async def _died(_request: Request, error: InspectionDied) -> Response:
    logger.bind(error=str(error)).error("an inspection died")
    if error.for_good:
        return answer(FAILED)
    return answer(problem(503, "inspection_interrupted", "The inspection did not come to its end."))
