"""What the caller sees of a request, and when."""

import random
import re
import time
from collections.abc import Callable
from typing import Protocol

from inference_service.gateway.errors import Headers, Refusal, error_content

KEPT_BYTES = 2**20
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,200}")


def request_id(given: bytes | None) -> bytes:
    """The caller's own where it is harmless in a header and a log line, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return b"req-%024x" % random.getrandbits(96)


class Way(Protocol):
    """By which an answer reaches its caller."""

    @property
    def paused(self) -> bool:
        """The caller has much to read already; `room` waits until it has read."""
        ...

    async def room(self) -> None: ...

    def head(self, status: int, headers: Headers) -> None: ...

    def body(self, piece: bytes, *, last: bool) -> None: ...


class Reply:
    __slots__ = ("_id", "_made_later", "_meanwhile", "_told", "_way", "began_at", "events", "kept", "status")

    def __init__(self, way: Way, identity: bytes) -> None:
        self._way = way
        self._id = identity
        self._told: dict[bytes, bytes] = {}
        self._made_later: Callable[[], Headers] | None = None
        self._meanwhile: Callable[[], None] | None = None
        self.status = 0
        self.events = False
        self.began_at = 0.0
        """When the first byte of the body was handed over."""
        self.kept: bytearray | None = None
        """What was said, where somebody wants to know it afterwards; too much is not kept at all."""

    def keep(self) -> None:
        self.kept = bytearray()

    def _remember(self, body: bytes) -> None:
        if self.kept is not None:
            self.kept += body
            if len(self.kept) > KEPT_BYTES:
                self.kept = None

    @property
    def started(self) -> bool:
        return self.status != 0

    def tells(self, name: bytes, value: bytes) -> None:
        """In a header, whatever the answer will be; the newest counts."""
        self._told[name] = value

    def will_tell(self, make: Callable[[], Headers]) -> None:
        """Headers that are made when nobody waits for them, or else with the answer."""
        self._made_later = make

    def meanwhile(self, do: Callable[[], None]) -> None:
        """What is done whenever a piece of a stream has passed."""
        self._meanwhile = do

    def prepare(self) -> None:
        """To be called while an upstream works."""
        if self._made_later is not None:
            self._told.update(self._made_later())
            self._made_later = None

    async def start(self, status: int, headers: Headers) -> None:
        self.prepare()
        self.events = any(name.lower() == b"content-type" and b"event-stream" in value for name, value in headers)
        self._way.head(status, [*headers, (b"x-request-id", self._id), *self._told.items()])
        self.status = status

    async def flush(self) -> None:
        """The head alone, where nobody knows when a body begins."""
        self._way.body(b"", last=False)

    async def piece(self, body: bytes) -> None:
        await self._pass(body, last=False)

    def piece_now(self, body: bytes) -> bool:
        """Without waiting for anything; False where that cannot be, and nothing is said then."""
        if self._way.paused:
            return False
        if self.kept is not None:
            self._remember(body)
        self._way.body(body, last=False)
        if self._meanwhile is not None:
            self._meanwhile()
        return True

    async def end(self, body: bytes = b"") -> None:
        await self._pass(body, last=True)

    async def _pass(self, body: bytes, *, last: bool) -> None:
        if self.kept is not None:
            self._remember(body)
        if self._way.paused:
            await self._way.room()
        self._way.body(body, last=last)
        if not self.began_at:
            self.began_at = time.perf_counter()

    async def tell_break(self, message: str) -> None:
        """In the stream itself, before its connection is broken off: not every client hears of that (HTTP/1.0 has no
        other end)."""
        if self.events:
            await self.piece(b"data: " + error_content(502, message, code="stream_cut") + b"\n\n")

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
