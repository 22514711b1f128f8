"""The frame of a service's FastAPI app: logging, health answers, one shape of error, and who may ask."""

import contextlib
import hmac
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from imts_shared.contracts.problems import FieldProblem, Problem
from imts_shared.logs import start_logging
from imts_shared.settings import Settings

_bearer = HTTPBearer(auto_error=False, description="An API key of the platform.")
_Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


class Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def problem(status: int, code: str, detail: str, **more: Any) -> Problem:
    return Problem(title=code.replace("_", " "), status=status, code=code, detail=detail, **more)


def given_key(credentials: _Bearer) -> str:
    return credentials.credentials if credentials else ""


Key = Annotated[str, Depends(given_key)]


def services_only(settings: Callable[[], Settings]) -> Callable[[str], Awaitable[None]]:
    """A dependency that lets in who knows the services' own key."""

    async def check(key: Key) -> None:
        if not hmac.compare_digest(key.encode(), settings().service_key.get_secret_value().encode()):
            raise Refused(problem(401, "wrong_service_key", "Only the platform's own services may call this."))

    return check


def create(
    name: str,
    distribution: str,
    settings: Callable[[], Settings],
    *,
    failure: Problem,
    start: Callable[[], None] | None = None,
    running: Callable[[], AbstractAsyncContextManager[None]] | None = None,
    **about: Any,
) -> FastAPI:
    """`failure` is what is answered when the code fails; `start` is called once when the app starts; `running` is
    entered then, and left when the app ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        config = settings()
        start_logging(name, config.log_level, config.log_format)
        if start is not None:
            start()
        async with running() if running is not None else contextlib.nullcontext():
            yield

    app = FastAPI(version=version(distribution), lifespan=lifespan, **about)
    _answer_health(app, name)
    _answer_problems(app, failure)
    return app


def _answer_health(app: FastAPI, name: str) -> None:
    started = time.time()

    @app.get("/healthz", summary="The process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="The process can do its work")
    async def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @app.get("/info", summary="What this process is")
    async def info() -> dict[str, str | int | float]:
        return {"service": name, "version": app.version, "pid": os.getpid(), "startedAt": started}

    @app.get("/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _answer_problems(app: FastAPI, failure: Problem) -> None:
    @app.exception_handler(Refused)
    async def refused(_request: Request, error: Refused) -> Response:
        return answer(error.problem)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        return answer(_of_validation(error))

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> Response:
        return answer(problem(error.status_code, "http_error", f"{error.detail}."))

    @app.exception_handler(Exception)
    async def unforeseen(_request: Request, _error: Exception) -> Response:
        return answer(failure)


def answer(said: Problem) -> Response:
    content = said.model_dump_json(by_alias=True, exclude_none=True)
    return Response(content, said.status, media_type="application/problem+json")


def _of_validation(error: RequestValidationError) -> Problem:
    faults = [
        FieldProblem(
            field=".".join(str(part) for part in one["loc"][1:]) or "body", code=one["type"], message=one["msg"]
        )
        for one in error.errors()
    ]
    first = faults[0]
    detail = f"{first.field}: {first.message}."
    return problem(422, "invalid_request", detail, field=first.field, errors=faults)
