"""What comes back when no answer does.

Garbage  what came is no answer by Anthropic's grammar: the one exception that reading one raises
refusal  an error that Anthropic tells, as the caller is told of it
"""

import re

import orjson

from inference_service.gateway.errors import Refusal

MESSAGE_CHARACTERS = 2_000

_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_TOLD = {
    401: (502, "provider_key_refused"),
    402: (502, "provider_billing"),
    403: (502, "provider_not_permitted"),
    404: (502, "provider_model_not_found"),
    408: (504, "provider_timeout"),
    413: (413, "body_too_large"),
    429: (429, "provider_rate_limit"),
    503: (503, "provider_overloaded"),
    504: (504, "provider_timeout"),
    529: (503, "provider_overloaded"),
}
"""What is wrong between this platform and the provider is none of the caller's doing, so not told with his statuses."""
_SECONDS = re.compile(r"[0-9]{1,6}")


class Garbage(Exception):
    pass


def refusal(status: int, body: bytes, retry_after: str | None = None) -> Refusal:
    """Of an answer with a status that is no success. `retry_after`: the header of that name, as it came."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    return _told(status, content, retry_after)


def refusal_midway(event: object) -> Refusal:
    """Of an `error` event, which has no status but its type."""
    error = event.get("error") if isinstance(event, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    return _told(_STATUS_OF.get(kind, 500) if isinstance(kind, str) else 500, event, None)


def _told(status: int, content: object, retry_after: str | None) -> Refusal:
    told, code = _TOLD.get(status, (status, "provider_refused") if 400 <= status < 500 else (502, "provider_failed"))
    error = content.get("error") if isinstance(content, dict) else None
    words = error.get("message") if isinstance(error, dict) else None
    if not isinstance(words, str) or not words:
        words = f"It answered {status} and gave no reason."
    wait = {"retry-after": retry_after} if retry_after and _SECONDS.fullmatch(retry_after) else None
    return Refusal(told, f"From the model's provider: {words[:MESSAGE_CHARACTERS]}", code=code, headers=wait)
