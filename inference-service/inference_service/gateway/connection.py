"""A connection to an upstream, by HTTP/1.1: one question at a time, and its answer as it comes.

By hand, as every request pays for it and a general client costs more than all else that the gateway does with one; the
parser is llhttp's. Nothing is believed that is not framed: an answer ends where its length or its last chunk says so.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpResponseParser

from inference_service.gateway.errors import Headers

HEAD_BYTES = 64 * 2**10
HELD_BYTES = 256 * 2**10
"""Of an answer that comes faster than it is taken."""


class Unreachable(Exception):
    """Nobody took the connection."""


class Broken(Exception):
    """The answer is none by the protocol, or it broke off. `stale`: the connection was an old one, and closed without a
    byte, as one does that was idle for too long."""

    def __init__(self, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


class Connection(asyncio.Protocol):
    __slots__ = (
        "_asked", "_enough", "_error", "_heard_at", "_informs", "_loop", "_noise", "_parser", "_paused", "_pieces",
        "_sink", "_size", "_spoilt", "_transport", "_used", "_waiter", "_wanted", "_watcher", "ended", "headers",
        "in_head", "kept_alive", "lost", "status",
    )  # fmt: skip

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._watcher: asyncio.TimerHandle
        self._waiter: asyncio.Future[None] | None = None
        self._asked = False
        self._used = False
        self._paused = False
        self.lost = False
        self._clear()

    def _clear(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.in_head = True
        self.ended = False
        self.kept_alive = False
        self._spoilt = False
        self._informs = False
        self._noise = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = 0
        self._sink: Callable[[bytes], bool] | None = None
        self._heard_at = 0.0
        self._error: Broken | TimeoutError | None = None

    def ask(self, head: bytes, body: bytes, enough: Callable[["Connection"], int]) -> None:
        """`enough`: by status and headers, how many bytes of the body are to be there when the answer is looked at, if
        it does not end before; or Broken."""
        self._clear()
        self._asked = True
        self._enough = enough
        if len(body) <= HEAD_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    async def beginning(self) -> bytes:
        """What there is of the body as soon as it is enough; see `ended`."""
        while self._error is None:
            if self.ended or (not self.in_head and self._size >= self._wanted):
                return self._taken()
            await self._news()
        raise self._error

    async def piece(self) -> bytes:
        """Empty at the end."""
        self._wanted = 1
        while not self._pieces:
            if self.ended:
                return b""
            if self._error is not None:
                raise self._error
            await self._news()
        return self._taken()

    async def pass_to(self, sink: Callable[[bytes], bool], silence_seconds: float) -> None:
        """Gives the sink each piece as it comes, without a detour through the task that waits here, until it wants no
        more of them (it says False) or the answer is at its end. Raises TimeoutError after a silence."""
        if self._pieces and not sink(self._taken()):
            return
        self._sink = sink
        self._heard_at = self._loop.time()
        self._watcher = self._loop.call_later(silence_seconds, self._watch, silence_seconds)
        try:
            while self._sink is not None and not self.ended:
                if self._error is not None:
                    raise self._error
                await self._news()
        finally:
            self._sink = None
            self._watcher.cancel()

    @property
    def held(self) -> int:
        """Bytes of the body that nobody has taken yet."""
        return self._size

    def header(self, name: bytes) -> bytes:
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return b""

    def rest(self) -> bool:
        """The answer is taken; whether the connection can be used for another one."""
        whole = self.ended and self.kept_alive and not self._spoilt and not self.lost and self._error is None
        self._asked, self._used = False, True
        self._clear()
        return whole and not self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._asked and not self.ended:
            nothing = self.in_head and not self._noise
            self._fail(Broken(str(exc or "") or "the connection was closed", stale=nothing and self._used))

    def data_received(self, data: bytes) -> None:
        if not self._asked:
            self._transport.abort()
            return
        if self._error is not None:
            return
        self._noise += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._break(f"no HTTP: {error or type(error).__name__}")
            return
        if self._noise > HEAD_BYTES and not self.ended:
            self._break("headers or chunks without end")

    def on_message_begin(self) -> None:
        """After an answer that has ended: of something that nobody asked for."""
        self._spoilt = self.ended

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers are nothing that anybody reads."""
        if self.in_head and not self.ended:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.ended:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._informs = True
            return
        self.status = status
        self.in_head = False
        try:
            self._wanted = self._enough(self)
        except Broken as error:
            self._fail(error)

    def on_body(self, body: bytes) -> None:
        if self.ended:
            return
        self._noise = 0
        if self._sink is not None:
            self._heard_at = self._loop.time()
            if not self._sink(body):
                self._sink = None
                self._wake()
            return
        self._pieces.append(body)
        self._size += len(body)
        if self._size >= self._wanted:
            self._wake()
            if self._size > HELD_BYTES and not self._paused:
                self._paused = True
                self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._informs:
            self._informs = False
            self.headers = []
            return
        if self.ended:
            return
        self.ended = True
        self.kept_alive = self._parser.should_keep_alive()
        self._wake()

    def _taken(self) -> bytes:
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self._size = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return body

    async def _news(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch(self, seconds: float) -> None:
        """One timer for many pieces, each of which would else set and cancel its own."""
        left = self._heard_at + seconds - self._loop.time()
        if left > 0:
            self._watcher = self._loop.call_later(left, self._watch, seconds)
        else:
            self._fail(TimeoutError())

    def _break(self, message: str) -> None:
        self._transport.abort()
        self._fail(Broken(message))

    def _fail(self, error: Broken | TimeoutError) -> None:
        if self._error is None:
            self._error = error
        self._wake()
