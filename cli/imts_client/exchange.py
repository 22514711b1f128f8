"""What the blocking and the awaiting transport share: how a call becomes an HTTP request, and what breaks mean."""

import json
from typing import IO, Any

import httpx

from imts_client.calls import Call
from imts_client.errors import ConnectionFailed, InvalidRequest, UnexpectedAnswer, problem_from
from imts_client.uploads import Reading
from imts_client.where import Where

CONNECT_SECONDS = 5.0
STREAM_PATIENCE_SECONDS = 600.0
"""How long a stream tries to reattach before it gives up."""

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
PASSING = frozenset({429, 502, 503, 504})
"""What a platform that is starting, or a proxy before it, answers a stream that reattaches."""


def client_options(where: Where) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {where.key}", "Accept": "application/json"}
    return {
        "base_url": where.url,
        "headers": headers,
        # Redirects are not followed, so certificates are needed for https alone; loading them takes a while.
        "verify": where.url.startswith("https:"),
        # A proxy cannot reach the addresses that mean this machine.
        "trust_env": not where.is_here,
    }


def request_options(call: Call[Any], file: IO[bytes] | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "method": call.method,
        "url": call.path,
        "params": dict(call.params),
        "headers": dict(call.headers),
        "timeout": httpx.Timeout(call.read_seconds, connect=CONNECT_SECONDS),
    }
    if call.json is not None:
        options["content"] = _written(call.json)
        options["headers"]["Content-Type"] = "application/json"
    if call.upload is not None and file is not None:
        options["data"] = dict(call.form)
        reading = Reading(file, call.upload.told)
        options["files"] = {"file": (call.upload.path.name, reading, "application/octet-stream")}
    return options


def _written(body: Any) -> bytes:
    """Refused here as the server would refuse it: what JSON has no words for (NaN, say) does not reach it."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        detail = f"What was given cannot be said in JSON: {error}."
        raise InvalidRequest(400, {"code": "invalid_request", "detail": detail}) from None


def document(answer: httpx.Response) -> Any:
    """The answer's JSON, None where it has none; a refusal is raised."""
    if not answer.is_success:
        raise problem_from(answer.status_code, answer.content)
    if not answer.content:
        return None
    try:
        return json.loads(answer.content)
    except ValueError:
        raise UnexpectedAnswer(f"What answers at {answer.url} is not the platform: it does not speak JSON.") from None


def items_of(page: Any) -> list[Any]:
    items = page.get("items") if isinstance(page, dict) else None
    if isinstance(items, list):
        return items
    raise UnexpectedAnswer("What answers is not the platform: a list looks different.")


def failed(where: Where, error: httpx.HTTPError | httpx.InvalidURL | None) -> ConnectionFailed:
    if isinstance(error, NOT_SENT):
        return ConnectionFailed(f"Nobody answers at {where.url}.")
    if isinstance(error, httpx.TimeoutException):
        return ConnectionFailed(f"{where.url} did not answer in time.")
    return ConnectionFailed(f"The connection to {where.url} broke off.")
