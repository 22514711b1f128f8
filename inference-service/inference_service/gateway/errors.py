"""Errors as OpenAI's clients expect them.

Refusal                 what the caller is told, with its status
Said                    an upstream's own words that it cannot answer now
Lost                    a try failed before the caller saw a byte of it: another engine may be asked
Cut                     the answer broke off after its first byte: the caller's connection is broken off too
"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

Headers = list[tuple[bytes, bytes]]


class Refusal(Exception):
    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def content(self) -> bytes:
        return error_content(self.status, self.message, self.code, self.param)


@dataclass(frozen=True, slots=True)
class Said:
    """An upstream's own answer that it cannot, kept for the case that nobody else can either."""

    status: int
    headers: Headers
    body: bytes
    retry_after: float | None = None


class Lost(Exception):
    """`again`: its connection was no longer there, and it may be asked over another one. `blameless`: it is well, and
    said no to this request."""

    def __init__(
        self,
        message: str,
        *,
        timed_out: bool = False,
        again: bool = False,
        blameless: bool = False,
        said: Said | None = None,
    ) -> None:
        super().__init__(message)
        self.again = again
        self.blameless = blameless
        self.timed_out = timed_out
        self.said = said


class Cut(Exception):
    pass


def error_content(status: int, message: str, code: str | None = None, param: str | None = None) -> bytes:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def unavailable(message: str, code: str, *, retry_after: int | None) -> Refusal:
    """503. Without `retry_after` asking again soon is in vain, which OpenAI's clients are told in their own header."""
    told = {"x-should-retry": "false"} if retry_after is None else {"retry-after": str(retry_after)}
    return Refusal(503, message, code=code, headers=told)
