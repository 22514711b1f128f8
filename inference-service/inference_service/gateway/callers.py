"""HTTP/1.1 as callers speak it: on each connection one request after the other, and their answers.

By hand over llhttp's parser, as every request pays for it; what is round it (sockets, signals, its end) is uvicorn's.
A request's head is bounded in size and time before there is a request that anybody could answer.
"""

import asyncio
import select
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn import Config
from uvicorn.server import ServerState

from inference_service.gateway.errors import Headers, error_content
from inference_service.gateway.requests import CallerGone

HEAD_BYTES = 64 * 2**10
UNREAD_BYTES = 64 * 2**10
"""Of a body that comes faster than it is taken."""
MOST_WAITING = 100
"""Requests behind one another: each takes many times its bytes. Who sends more sends the rest over another
connection."""
LARGE = 64 * 2**10
"""What is larger is not copied in order to go out in one write."""

_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
"""A caller that reads nothing, or is there no more, is not waited for: a connection does not end before what was
written to it has gone."""

HANG_UP_SECONDS = 0.5
"""Between two looks whether a caller is gone whose connection is not read for the while."""
_GONE = getattr(select, "POLLRDHUP", None)
"""The system tells of it, whatever is still unread (on Linux)."""

_STATUS = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}
_WITHOUT_BODY = frozenset({204, 304})


class Request:
    """What a caller asks, and the answer to it."""

    __slots__ = (
        "_asks_to_go_on", "_chunks", "_connection", "_head", "_left", "_parts", "_silent", "_waiters", "answered",
        "arrived", "headers", "in_chunks", "keep_alive", "method", "path", "query", "raw_path", "size", "task",
    )  # fmt: skip

    def __init__(
        self,
        connection: "CallerConnection",
        method: str,
        raw_path: str,
        query: bytes,
        headers: dict[bytes, bytes],
        *,
        keep_alive: bool,
        in_chunks: bool,
    ) -> None:
        """`in_chunks`: whether the caller knows of them; without them a body without a length ends with its
        connection."""
        self._connection = connection
        self.method = method
        self.raw_path = raw_path
        self.path = unquote(raw_path) if "%" in raw_path else raw_path
        self.query = query
        self.headers = headers
        self.keep_alive = keep_alive
        self.in_chunks = in_chunks
        self.arrived = False
        """All of its body has come."""
        self.size = 0
        """Of what has come and was not taken."""
        self.answered = False
        self.task: asyncio.Task[None] | None = None
        self._parts: list[bytes] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._asks_to_go_on = in_chunks and headers.get(b"expect", b"").lower() == b"100-continue"
        self._head: bytes | None = None
        self._chunks = False
        self._silent = False
        self._left = -1

    @property
    def leave(self) -> set[Callable[[], None]]:
        return self._connection.leave

    def came(self, part: bytes) -> None:
        self._asks_to_go_on = False
        self._parts.append(part)
        self.size += len(part)
        self.wake()

    def taken(self) -> bytes:
        """What has come of the body."""
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts, self.size = [], 0
        self._connection.read_on()
        return body

    async def come(self) -> None:
        """Until there is more of the body, or all of it."""
        if self._asks_to_go_on and not self.arrived:
            self._asks_to_go_on = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.size or self.arrived):
            if self._connection.lost or self.answered:
                raise CallerGone
            await self._wait()

    @property
    def paused(self) -> bool:
        """The caller does not read what it has been sent."""
        return self._connection.paused

    async def room(self) -> None:
        while self._connection.paused and not self._connection.lost:
            await self._wait()

    def head(self, status: int, headers: Headers) -> None:
        """It goes out with the beginning of the body: each write wakes up both sides."""
        if self._head == b"":
            raise RuntimeError("the answer has begun already")
        lines = [_STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status]
        length = -1
        for name, value in (*self._connection.server.default_headers, *headers):
            lower = name.lower()
            if lower == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
                continue
            if lower == b"content-length":
                length = int(value)
            lines.append(b"%b: %b\r\n" % (lower, value))
        silent = self.method == "HEAD" or status in _WITHOUT_BODY
        chunks = length < 0 and not silent and self.in_chunks
        if chunks:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise ValueError("a header that would begin another one")
        self._silent, self._chunks, self._left = silent, chunks, length
        self._asks_to_go_on = False
        self._head = head + b"\r\n"

    def body(self, piece: bytes, *, last: bool) -> None:
        """To be called after `head`. Without a piece what was held of the answer goes out."""
        if self._head is None or self.answered:
            raise RuntimeError("the answer has not begun, or has ended")
        head, self._head = self._head, b""
        if self._silent:
            self._connection.write(head)
        elif self._chunks:
            end = b"0\r\n\r\n" if last else b""
            if piece:
                self._connection.write(b"%b%x\r\n" % (head, len(piece)), piece, b"\r\n" + end)
            else:
                self._connection.write(head + end)
        else:
            if self._left >= 0:
                self._left -= len(piece)
                if self._left < 0 or (last and self._left):
                    raise RuntimeError("the answer is not as long as it says")
            self._connection.write(head, piece)
        if last:
            self.answered = True
            self._parts, self.size = [], 0
            self._connection.answered(self)

    def wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter = self._connection.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)


class CallerConnection(asyncio.Protocol):
    """Connections that say nothing, or a head that does not end, are closed. Between requests the server's own patience
    counts."""

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[None]],
        head_seconds: float,
        *,
        config: Config,
        server_state: ServerState,
        **_named: Any,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = server_state
        self.paused = False
        self.lost = False
        self.leave: set[Callable[[], None]] = set()
        """Called when the caller hangs up, by requests that are being answered."""
        self._answer = answer
        self._head_seconds = head_seconds
        self._idle_seconds = config.timeout_keep_alive
        self._parser: httptools.HttpRequestParser | None = self._new_parser()
        self._transport: asyncio.Transport
        self._in_head = False
        self._got_on = False
        self._around_bytes = 0
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._reading: Request | None = None
        self._answering: Request | None = None
        self._waiting: deque[Request] = deque()
        self._full = False
        self._read_paused = False
        self._watch: asyncio.TimerHandle | None = None
        self._idle = False
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if _USER_TIMEOUT is not None:
            patience = int(self._idle_seconds * 1_000)
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, patience)
        self.server.connections.add(self)  # type: ignore[arg-type] # uvicorn names its own protocols alone
        self._close_in(self._head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.server.connections.discard(self)
        self._waiting.clear()
        self._parser = self._reading = None
        for timer in (self._timer, self._watch):
            if timer is not None:
                timer.cancel()
        if self._answering is not None:
            self._answering.wake()
        for leave in tuple(self.leave):
            leave()

    def shutdown(self) -> None:
        """The server is about to end: what is being answered is answered to its end."""
        if self._answering is None:
            self._transport.close()
        else:
            self._answering.keep_alive = False

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._answering is not None:
            self._answering.wake()

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            return
        self._got_on = False
        unread: bytes | memoryview = data
        try:
            while unread:
                try:
                    self._parser.feed_data(unread)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    unread = memoryview(unread)[upgrade.args[0] :]
                    self._stay(self._parser.get_http_version())
        except httptools.HttpParserError:
            if not self._full:
                self._refuse(400, "Invalid HTTP request received.", "invalid_http")
                return
            self._parser = None
        # A head, the end of a body, and what stands between its chunks: the parser keeps what has not ended yet.
        self._around_bytes = 0 if self._got_on else self._around_bytes + len(data)
        if self._around_bytes > HEAD_BYTES:
            self._refuse(431, f"The request's headers are larger than {HEAD_BYTES} bytes: send less.", "head_too_large")
            return
        if self._in_head and self._idle:
            self._idle = False
            self._close_in(self._head_seconds)
        if self._waiting:
            if self._answering is None:
                self._go_on()
            self.read_on()

    def _new_parser(self) -> httptools.HttpRequestParser:
        """What follows a request that closes the connection is none of our concern: its answer is given all the
        same."""
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _stay(self, version: str) -> None:
        """There is no other protocol here. A parser that has seen the wish for one takes the request's body for its
        beginning, so another one gets the head without it."""
        request = self._waiting.pop()
        if request.method == "CONNECT":
            raise httptools.HttpParserError("no tunnels")
        headers = [b"%b: %b\r\n" % one for one in request.headers.items() if one[0] != b"upgrade"]
        self._parser = self._new_parser()
        self._parser.feed_data(
            b"%b %b HTTP/%b\r\n%b\r\n" % (request.method.encode(), self._url, version.encode(), b"".join(headers))
        )

    def on_message_begin(self) -> None:
        self._in_head = True
        self._url, self._headers = b"", {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Behind a body there may be more of them, which nobody reads here."""
        if self._in_head:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        parser, url = self._parser, self._url
        assert parser is not None
        self._in_head, self._got_on = False, True
        if len(self._waiting) >= MOST_WAITING:
            self._waiting[-1].keep_alive = False
            self._full = True
            raise httptools.HttpParserError
        if url.startswith(b"/") and b"#" not in url:
            path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)
            path, query = parsed.path or b"/", parsed.query or b""
        current = parser.get_http_version() == "1.1"
        self._reading = Request(
            self,
            parser.get_method().decode("ascii"),
            path.decode("ascii"),
            query,
            self._headers,
            keep_alive=current and parser.should_keep_alive(),
            in_chunks=current,
        )
        self._waiting.append(self._reading)

    def on_body(self, body: bytes) -> None:
        self._got_on = True
        reading = self._reading
        if reading is not None and not reading.answered:
            reading.came(body)
            if reading.size > UNREAD_BYTES:
                self.read_on()

    def on_message_complete(self) -> None:
        """A large body may have come so quickly that reading was paused with its last piece: nobody would see that the
        caller hangs up."""
        if self._reading is not None:
            self._reading.arrived = True
            self._reading.wake()
            self.read_on()

    def read_on(self) -> None:
        """Unless there is enough to do: what waits behind an unanswered request stays unread. What is not answered any
        more is read all the same: a connection that is closed with something unread is reset, and its answers lost."""
        reading = self._reading
        enough = reading is not None and not reading.arrived and reading.size > UNREAD_BYTES
        enough = enough or (self._answering is not None and bool(self._waiting))
        enough = enough and not self._full
        if enough != self._read_paused and not self.lost:
            self._read_paused = enough
            if enough:
                self._transport.pause_reading()
                if self._watch is None and _GONE is not None:
                    self._watch = self.loop.call_later(HANG_UP_SECONDS, self._look_for_hang_up)
            else:
                self._transport.resume_reading()

    def _look_for_hang_up(self) -> None:
        """What is not read does not tell its end. A caller that has only ended its own side counts as gone, as it does
        where it is read."""
        self._watch = None
        if not self._read_paused or self._transport.is_closing():
            return
        if _has_hung_up(self._transport.get_extra_info("socket").fileno()):
            self._transport.close()
        else:
            self._watch = self.loop.call_later(HANG_UP_SECONDS, self._look_for_hang_up)

    def write(self, *parts: bytes) -> None:
        if self.lost:
            return
        if sum(map(len, parts)) > LARGE:
            for part in parts:
                self._transport.write(part)
        elif data := b"".join(parts):
            self._transport.write(data)

    def answered(self, request: Request) -> None:
        self._answering = None
        if self.lost or self._transport.is_closing():
            return
        if not request.keep_alive:
            self._transport.close()
            return
        if self._waiting:
            self._go_on()
        else:
            self._idle = not self._in_head
            self._close_in(self._idle_seconds if self._idle else self._head_seconds)
        self.read_on()

    def _go_on(self) -> None:
        self._idle = False
        self._due = None
        request = self._answering = self._waiting.popleft()
        request.task = self.loop.create_task(self._serve(request))
        self.server.tasks.add(request.task)

    async def _serve(self, request: Request) -> None:
        try:
            await self._answer(request)
        finally:
            assert request.task is not None
            self.server.tasks.discard(request.task)
            request.task = None
            if not request.answered:
                self._answering = None
                self._transport.close()

    def _close_in(self, seconds: float) -> None:
        """One timer for the connection, which looks again where there is time left: few of them ever end one."""
        self._due = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        left = self._due - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        elif self._in_head:
            message = f"The request's headers did not arrive within {self._head_seconds:g} seconds."
            self._refuse(408, message, "head_timeout")
        else:
            self._transport.close()

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Only where no answer to another request is due: bytes in the midst of that, or in its place, would be taken
        for its own."""
        self._due = None
        if self._waiting and not self._waiting[-1].arrived:
            self._waiting.pop()
        if self._answering is None and not self._waiting:
            body = error_content(status, message, code)
            self.write(
                b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (_STATUS[status], len(body), body)
            )
        self._transport.close()


def _has_hung_up(socket_number: int) -> bool:
    assert _GONE is not None
    poll = select.poll()
    poll.register(socket_number, _GONE)
    return bool(poll.poll(0))
