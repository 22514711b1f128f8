"""The analyzer's API: what can be said of a file without a job."""

import asyncio
import contextlib
import hmac
import os
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from loguru import logger
from obstore.exceptions import BaseError
from prometheus_client import CONTENT_TYPE_LATEST, Histogram, generate_latest
from starlette.exceptions import HTTPException

from analyzer_service.inspect.elsewhere import InspectionDied, inspect_elsewhere
from analyzer_service.inspect.inspection import inspect, preview
from analyzer_service.settings import settings
from imts_shared.contracts.datasets import Inspection, InspectRequest, PreviewAnswer, PreviewRequest
from imts_shared.contracts.problems import Problem
from imts_shared.logs import start_logging
from imts_shared.storage import BadKey, Storage, StorageError

SMALL_FILE = 2 * 2**20
"""Bytes. Such a file is read in a thread; a larger one in a process, so that the api goes on answering."""

LARGE_FILES_AT_ONCE = 2

SECONDS = Histogram("imts_inspect_seconds", "Time to inspect a file.", buckets=(0.01, 0.1, 1, 10, 60, 600))


class Refused(Exception):
    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(title=code.replace("_", " "), status=status, code=code, detail=detail)


@contextlib.asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[None]:
    config = settings()
    start_logging("analyzer-api", config.log_level, config.log_format)
    yield


app = FastAPI(title="IMTS analyzer", version=version("imts-analyzer-service"), lifespan=_lifespan)
_bearer = HTTPBearer(auto_error=False)
_room_for_large_files = asyncio.Semaphore(LARGE_FILES_AT_ONCE)
_started = time.time()


async def _service(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    given = credentials.credentials if credentials else ""
    if not hmac.compare_digest(given.encode(), settings().service_key.get_secret_value().encode()):
        raise Refused(401, "wrong_service_key", "Only the platform's own services may call this.")


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


@app.get("/healthz", summary="The process is alive")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/readyz", summary="The process can do its work")
async def readyz() -> dict[str, str]:
    return {"status": "ready"}


@app.get("/info", summary="What this process is")
async def info() -> dict[str, str | int | float]:
    return {"service": "analyzer-api", "version": app.version, "pid": os.getpid(), "startedAt": _started}


@app.get("/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _answer(problem: Problem) -> Response:
    return Response(
        problem.model_dump_json(by_alias=True, exclude_none=True), problem.status, None, "application/problem+json"
    )


@app.exception_handler(Refused)
async def _refused(_request: Request, error: Refused) -> Response:
    return _answer(error.problem)


@app.exception_handler(RequestValidationError)
async def _invalid(_request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return _answer(Refused(422, "invalid_request", f"{field}: {first['msg']}.").problem)


@app.exception_handler(FileNotFoundError)
async def _no_file(_request: Request, _error: FileNotFoundError) -> Response:
    return _answer(Refused(404, "no_such_file", "Nothing lies under this key.").problem)


@app.exception_handler(BadKey)
async def _bad_key(_request: Request, _error: BadKey) -> Response:
    return _answer(Refused(422, "bad_key", "This is not a key of the storage.").problem)


@app.exception_handler(StorageError)
@app.exception_handler(BaseError)
@app.exception_handler(OSError)
async def _away(_request: Request, error: Exception) -> Response:
    logger.bind(error=str(error)[:300]).warning("a file could not be read")
    return _answer(Refused(503, "storage_unavailable", "The file could not be read now.").problem)


@app.exception_handler(InspectionDied)
async def _died(_request: Request, error: InspectionDied) -> Response:
    logger.bind(error=str(error)).error("an inspection died")
    if error.for_good:
        return _failed()
    return _answer(Refused(503, "inspection_interrupted", "The inspection did not come to its end.").problem)


@app.exception_handler(Exception)
async def _unforeseen(_request: Request, _error: Exception) -> Response:
    return _failed()


def _failed() -> Response:
    """Asked again, it would fail again: whoever asks must not wait for a better day."""
    return _answer(Refused(500, "inspection_failed", "The analyzer failed on this file; its log says more.").problem)


@app.exception_handler(HTTPException)
async def _http(_request: Request, error: HTTPException) -> Response:
    return _answer(Refused(error.status_code, "http_error", f"{error.detail}.").problem)
