"""A request's head is bounded in size and time, before there is a request that anybody could answer."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inference_service.gateway.errors import error_content
from inference_service.gateway.together import Together

CONNECTION = "imts.connection"
"""Where a request finds its connection, to hear of its end without a task that waits for it."""
HEAD_BYTES = 64 * 2**10

_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class BoundedHeads(HttpToolsProtocol):
    """Connections that say nothing, or a head that does not end, are closed. Between requests the server's own patience
    counts."""

    head_seconds = 30.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._in_head = True
        self._patience: asyncio.TimerHandle | None = None
        self.leave: set[Callable[[], None]] = set()
        """Called when the caller hangs up, by requests that are being answered."""

    @property
    def body_arrived(self) -> bool:
        """Of the newest request, and so of those before it."""
        return self.cycle is not None and not self.cycle.more_body

    def has_room(self) -> bool:
        """Whether what is written goes out without waiting for the caller to read."""
        return not self.flow.write_paused

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.together = Together(transport)
        self.transport = cast(asyncio.Transport, self.together)
        self._patience = self.loop.call_later(self.head_seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)
        for leave in tuple(self.leave):
            leave()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"The request's headers are larger than {HEAD_BYTES} bytes: send less.", "head_too_large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._patience is None:
            self._in_head, self._head_bytes = True, 0
            self._patience = self.loop.call_later(self.head_seconds, self._too_slow)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Behind a body there may be more of them, which nobody reads here."""
        if self._in_head:
            super().on_header(name, value)
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._wait_no_more()
        self.scope[CONNECTION] = self  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A large body may have come so quickly that reading was paused with its last piece, and nobody reads on then:
        it would not be seen that the caller hangs up. What waits behind an unanswered request stays unread."""
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg, "invalid_http")

    def _too_slow(self) -> None:
        self._patience = None
        if self._head_bytes:
            self._refuse(
                408, f"The request's headers did not arrive within {self.head_seconds:g} seconds.", "head_timeout"
            )
        else:
            self.transport.close()

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Only where no answer is under way: bytes in the midst of one would be taken for its own."""
        self._wait_no_more()
        if self.cycle is None or self.cycle.response_complete:
            body = error_content(status, message, code)
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, _REASONS[status], len(body), body)
            )
        self.transport.close()
