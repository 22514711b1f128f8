"""Every error leaves as one problem document (RFC 9457); nothing a caller sends makes a 500."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import psycopg
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from loguru import logger
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from control_plane.problems import Refusal
from imts_shared.contracts.faults import fault
from imts_shared.contracts.problems import FieldProblem, Problem
from imts_shared.storage import StorageError, StorageFull

MEDIA_TYPE = "application/problem+json"
DOCUMENTED = {
    status: {"model": Problem, "description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {}}}
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
}


def problem_response(request: Request, refusal: Refusal) -> Response:
    problem = Problem(
        type=f"urn:imts:problem:{refusal.code}",
        title=HTTPStatus(refusal.status).phrase,
        status=refusal.status,
        code=refusal.code,
        detail=refusal.detail,
        field=refusal.field,
        hint=refusal.hint,
        errors=refusal.errors,
        request_id=getattr(request.state, "request_id", None),
    )
    return Response(
        problem.model_dump_json(by_alias=True, exclude_none=True), refusal.status, refusal.headers, MEDIA_TYPE
    )


def handle_problems(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return problem_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem_response(request, _from_validation(request, error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, Refusal):  # raised while FastAPI read the body
            return problem_response(request, error.__cause__)
        code = {404: "no_such_path", 405: "method_not_allowed"}.get(error.status_code, "refused")
        headers = dict(error.headers) if error.headers else None
        if error.status_code == 405:
            headers = {"Allow": ", ".join(_methods(app, request.url.path))}
        detail = f"{request.method} {request.url.path}: {error.detail}."
        return problem_response(request, Refusal(error.status_code, code, detail, headers=headers))

    @app.exception_handler(DataError)
    async def unstorable(request: Request, error: DataError) -> Response:
        logger.bind(path=request.url.path, error=str(error.orig)[:300]).warning("a value cannot be stored")
        return problem_response(request, Refusal(422, "unstorable_value", "A value in the request cannot be stored."))

    @app.exception_handler(psycopg.DataError)
    async def unstorable_value(request: Request, error: psycopg.DataError) -> Response:
        logger.bind(path=request.url.path, error=str(error)[:300]).warning("a value cannot be stored")
        return problem_response(request, Refusal(422, "unstorable_value", "A value in the request cannot be stored."))

    @app.exception_handler(psycopg.OperationalError)
    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeout)
    async def database_away(request: Request, error: Exception) -> Response:
        logger.bind(path=request.url.path, error=type(error).__name__).warning("the database does not answer")
        return problem_response(request, _unavailable("database_unavailable", "The database does not answer."))

    @app.exception_handler(DBAPIError)
    async def database_broken(request: Request, error: DBAPIError) -> Response:
        if error.connection_invalidated:
            return await database_away(request, error)
        raise error

    @app.exception_handler(StorageError)
    async def storage_away(request: Request, error: StorageError) -> Response:
        logger.bind(path=request.url.path, error=str(error)[:300]).warning("the storage does not answer")
        if isinstance(error, StorageFull):
            return problem_response(
                request,
                Refusal(507, "storage_full", "The file storage is full.", hint="Free some space, then try again."),
            )
        return problem_response(request, _unavailable("storage_unavailable", "The file storage does not answer."))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        request_id = getattr(request.state, "request_id", None)
        return problem_response(
            request,
            Refusal(
                500,
                "internal_error",
                "This is a fault of the platform, not of the request.",
                hint=f"Please report it with the log lines of request {request_id}.",
            ),
        )


def _methods(app: FastAPI, path: str) -> list[str]:
    """Every method that this path takes, whichever of its routes was asked first. A path that is described by itself
    takes what stands there, though a name in its place would take more."""
    paths = app.openapi()["paths"]
    templates = [path] if path in paths else [one for one in paths if re.fullmatch(_pattern(one), path)]
    return sorted({method.upper() for one in templates for method in paths[one]})


def _pattern(template: str) -> str:
    return re.sub(r"{[^}]+}", "[^/]+", template.replace("{path}", ".+"))


def _unavailable(code: str, detail: str) -> Refusal:
    return Refusal(503, code, detail, hint="Try again in a few seconds.", headers={"Retry-After": "2"})


def _from_validation(request: Request, errors: Sequence[Mapping[str, Any]]) -> Refusal:
    broken_json = next((e for e in errors if e["type"] == "json_invalid"), None)
    if broken_json is not None:
        reason = broken_json.get("ctx", {}).get("error", "it is not JSON")
        return Refusal(400, "invalid_json", f"The body is not valid JSON: {reason}.", field="body")
    faults = [_fault(request, error) for error in errors]
    first = faults[0]
    many = f" ({len(faults)} fields are at fault.)" if len(faults) > 1 else ""
    return Refusal(
        422,
        "invalid_request",
        f"{first.field}: {first.message}.{many}",
        field=first.field,
        hint=first.hint,
        errors=faults,
    )


def _fault(request: Request, error: Mapping[str, Any]) -> FieldProblem:
    place, *path = (str(part) for part in error["loc"])
    field = (".".join(path) if place == "body" else path[0] if path else "") or place
    return fault(field, error, path, _body_of(request) if place == "body" else None)


def _body_of(request: Request) -> Any:
    """The model of what the endpoint takes."""
    body = getattr(request.scope.get("route"), "body_field", None)
    return getattr(getattr(body, "field_info", None), "annotation", None)


def loads_strictly(body: bytes) -> Any:
    """JSON as Postgres can keep it: UTF-8, no lone surrogates, no NUL characters, no NaN."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(
            400,
            "invalid_json",
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            field="body",
        ) from None
