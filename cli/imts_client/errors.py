"""What can go wrong, as a family:

ImtsError
├── NotConfigured       no address or no key can be found
├── ConnectionFailed    nobody answers, or the answer broke off
├── UnexpectedAnswer    something that this client's version does not understand
├── WaitTimeout         the job took longer than the caller would wait
└── ApiProblem          the platform refused: status, code, detail, field, hint
    ├── InvalidRequest    400, 413, 415, 422
    ├── Unauthorized      401
    ├── Forbidden         403
    ├── NotFound          404
    ├── Conflict          409
    ├── TooManyRequests   429
    └── ServerFault       5xx
"""

import json
from typing import Any


class ImtsError(Exception):
    """Everything that this client raises by itself."""


class NotConfigured(ImtsError):
    pass


class ConnectionFailed(ImtsError):
    pass


class UnexpectedAnswer(ImtsError):
    pass


class WaitTimeout(ImtsError):
    pass


class ApiProblem(ImtsError):
    """A problem document (RFC 9457), or an error of the gateway in OpenAI's shape. Programs decide by `code`, people
    read `detail` and `hint`."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        self.status = status
        self.document = document
        self.code: str = document.get("code") or f"http_{status}"
        self.detail: str = document.get("detail") or document.get("title") or f"The server answered {status}."
        self.field: str | None = document.get("field")
        self.hint: str | None = document.get("hint")
        self.errors: list[dict[str, Any]] = document.get("errors") or []
        self.request_id: str | None = document.get("requestId")
        super().__init__(self.detail)


class InvalidRequest(ApiProblem):
    pass


class Unauthorized(ApiProblem):
    pass


class Forbidden(ApiProblem):
    pass


class NotFound(ApiProblem):
    pass


class Conflict(ApiProblem):
    pass


class TooManyRequests(ApiProblem):
    pass


class ServerFault(ApiProblem):
    pass


_BY_STATUS: dict[int, type[ApiProblem]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: TooManyRequests,
}


def problem_from(status: int, body: bytes) -> ApiProblem:
    """What a refusal says; an answer from something else on the way (a proxy, say) becomes a problem as well."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    kind = ServerFault if status >= 500 else _BY_STATUS.get(status, ApiProblem)
    return kind(status, _as_problem(document) if isinstance(document, dict) else {})


def _as_problem(document: dict[str, Any]) -> dict[str, Any]:
    """The gateway's errors have OpenAI's shape: {"error": {message, type, param, code}}."""
    error = document.get("error")
    if not isinstance(error, dict):
        return document
    named = {
        "code": error.get("code") or error.get("type"),
        "detail": error.get("message"),
        "field": error.get("param"),
    }
    return document | {name: value for name, value in named.items() if isinstance(value, str)}
