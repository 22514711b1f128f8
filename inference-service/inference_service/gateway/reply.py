"""What the caller sees of a request, and when."""

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from inference_service.gateway.errors import Headers, Refusal

Send = Callable[[dict[str, Any]], Awaitable[None]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,200}")


def request_id(given: bytes | None) -> bytes:
    """The caller's own where it is harmless in a header and a log line, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return b"req-" + secrets.token_hex(12).encode()


class Reply:
    __slots__ = ("_id", "_send", "began_at", "status")

    def __init__(self, send: Send, identity: bytes) -> None:
        self._send = send
        self._id = identity
        self.status = 0
        self.began_at = 0.0
        """When the first byte of the body was handed over."""

    @property
    def started(self) -> bool:
        return self.status != 0

    async def start(self, status: int, headers: Headers) -> None:
        self.status = status
        told = [*headers, (b"x-request-id", self._id)]
        await self._send({"type": "http.response.start", "status": status, "headers": told})

    async def piece(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        if not self.began_at:
            self.began_at = time.perf_counter()

    async def end(self, body: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
        if not self.began_at:
            self.began_at = time.perf_counter()

    async def whole(self, status: int, kind: bytes, body: bytes, headers: Headers | None = None) -> None:
        length = str(len(body)).encode()
        await self.start(status, [(b"content-type", kind), (b"content-length", length), *(headers or [])])
        await self.end(body)

    async def refuse(self, refusal: Refusal, *, last: bool = True) -> None:
        """`last=False` leaves the reply open, though the caller has all of it by its length: see requests.discard."""
        body = refusal.content
        told = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
        told += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if not last:
            told.append((b"connection", b"close"))
        await self.start(refusal.status, told)
        await (self.end(body) if last else self.piece(body))
