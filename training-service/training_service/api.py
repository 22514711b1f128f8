"""The training service's API: what can be said of a job without running it."""

import asyncio
import contextlib
import hmac
import os
import threading
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Annotated, Any

import httpx
import psutil
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from loguru import logger
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from imts_shared.contracts.internal import Device
from imts_shared.contracts.problems import FieldProblem, Problem
from imts_shared.contracts.training import CheckRequest, Estimate, TrainingCheck, TrainingRequest
from imts_shared.logs import start_logging
from imts_shared.worker import gpus
from training_service import checks
from training_service.estimate import Device as Place
from training_service.settings import settings


class Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def _refusal(status: int, code: str, detail: str, **more: Any) -> Refused:
    return Refused(Problem(title=code.replace("_", " "), status=status, code=code, detail=detail, **more))


@contextlib.asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[None]:
    config = settings()
    start_logging("training-api", config.log_level, config.log_format)
    threading.Thread(target=_load, name="load", daemon=True).start()
    yield


def _load() -> None:
    """The frameworks take ten seconds to import; the first question should not wait for all of them."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    from training_service.arguments import known

    began = time.monotonic()
    known("sft")
    logger.bind(seconds=round(time.monotonic() - began, 1)).info("argument classes are loaded")


app = FastAPI(
    title="IMTS training",
    version=version("imts-training-service"),
    description="Checks and estimates training jobs; the jobs themselves are submitted to the control plane.",
    lifespan=_lifespan,
)
_bearer = HTTPBearer(auto_error=False, description="An API key of the platform.")
_started = time.time()
Key = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _is_service(key: str) -> bool:
    return hmac.compare_digest(key.encode(), settings().service_key.get_secret_value().encode())


async def _service(credentials: Key) -> None:
    if not _is_service(credentials.credentials if credentials else ""):
        raise _refusal(401, "wrong_service_key", "Only the platform's own services may call this.")


@app.post("/check", response_model=TrainingCheck, dependencies=[Depends(_service)], summary="For the control plane")
async def check(request: CheckRequest) -> TrainingCheck:
    return await _check(request)


@app.post("/validate", response_model=TrainingCheck, summary="Check a training job as it would be submitted")
async def validate(request: TrainingRequest, credentials: Key) -> TrainingCheck:
    return await _check(await _resolved(request, credentials))


@app.post("/estimate", response_model=Estimate, summary="Memory, time and disk that a training job would need")
async def estimate(request: TrainingRequest, credentials: Key) -> Estimate:
    found = (await _check(await _resolved(request, credentials))).estimate
    assert found is not None
    return found


async def _check(request: CheckRequest) -> TrainingCheck:
    device = _place(request)
    return await asyncio.to_thread(
        checks.check, request.spec, request.inputs, request.models, device, settings().models
    )


def _place(request: CheckRequest) -> Place:
    devices = request.devices or _own_gpus()
    wanted = request.spec.get("gpus")
    if devices and wanted != 0:
        smallest = min(device.memory_bytes or 0 for device in devices)
        return Place(devices[0].name, smallest or 2**62, gpu=True)
    return Place("cpu", psutil.virtual_memory().total, gpu=False, cores=os.cpu_count() or 1)


_found_gpus: list[Device] | None = None


def _own_gpus() -> list[Device]:
    global _found_gpus  # noqa: PLW0603
    if _found_gpus is None:
        _found_gpus = gpus.found()
    return _found_gpus


async def _resolved(request: TrainingRequest, credentials: Key) -> CheckRequest:
    """The control plane knows who may see which data set, and so it is asked with the caller's own key."""
    key = credentials.credentials if credentials else ""
    if not key:
        raise _refusal(401, "no_key", "An API key is needed here.", hint="Send `Authorization: Bearer <key>`.")
    body = request.model_dump(mode="json", by_alias=True, exclude_unset=True)
    async with httpx.AsyncClient(base_url=settings().control_plane_url, timeout=10, trust_env=False) as client:
        try:
            answer = await client.post("/api/training/resolve", json=body, headers={"Authorization": f"Bearer {key}"})
        except httpx.TransportError as error:
            raise _refusal(503, "control_plane_unavailable", "The control plane does not answer.") from error
    if answer.status_code != 200:
        raise Refused(Problem.model_validate_json(answer.content))
    return CheckRequest.model_validate_json(answer.content)


@app.get("/healthz", summary="The process is alive")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/readyz", summary="The process can do its work")
async def readyz() -> dict[str, str]:
    return {"status": "ready"}


@app.get("/info", summary="What this process is")
async def info() -> dict[str, str | int | float]:
    return {"service": "training-api", "version": app.version, "pid": os.getpid(), "startedAt": _started}


@app.get("/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _answer(problem: Problem) -> Response:
    return Response(
        problem.model_dump_json(by_alias=True, exclude_none=True),
        status_code=problem.status,
        media_type="application/problem+json",
    )


@app.exception_handler(Refused)
async def _refused(_request: Request, error: Refused) -> Response:
    return _answer(error.problem)


@app.exception_handler(RequestValidationError)
async def _invalid(_request: Request, error: RequestValidationError) -> Response:
    errors = [
        FieldProblem(
            field=".".join(str(part) for part in one["loc"][1:]) or "body", code=one["type"], message=one["msg"]
        )
        for one in error.errors()
    ]
    first = errors[0]
    problem = Problem(
        title="invalid request",
        status=422,
        code="invalid_request",
        detail=f"{first.field}: {first.message}",
        field=first.field,
        errors=errors,
    )
    return _answer(problem)


@app.exception_handler(HTTPException)
async def _http(_request: Request, error: HTTPException) -> Response:
    return _answer(Problem(title="refused", status=error.status_code, code="http_error", detail=f"{error.detail}."))


@app.exception_handler(Exception)
async def _unforeseen(_request: Request, _error: Exception) -> Response:
    return _answer(
        Problem(
            title="check failed",
            status=500,
            code="check_failed",
            detail="The check failed; the service's log says why.",
        )
    )
