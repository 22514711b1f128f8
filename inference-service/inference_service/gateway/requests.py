"""A request's body: read within bounds, parsed once, and passed on as it came."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from inference_service.gateway.errors import Refusal
from inference_service.gateway.holding import SMALL_BYTES, Holding
from inference_service.gateway.weighing import parsed_bytes

LENGTH_DIGITS = 20
"""Of a length in 64 bits, before which there may be thousands of zeros."""


class CallerGone(Exception):
    """Whoever asked has hung up: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    model: str
    stream: bool
    body: bytes
    content: dict[str, Any]


class Body(Protocol):
    """As it comes. `size`: of what has come and was not taken. `arrived`: all of it has come."""

    @property
    def size(self) -> int: ...

    @property
    def arrived(self) -> bool: ...

    def taken(self) -> bytes: ...

    async def come(self) -> None:
        """Until there is more of it, or all. Raises CallerGone."""
        ...


class Incoming:
    """What comes from the caller."""

    __slots__ = ("_body", "_held", "_holding", "_leave")

    def __init__(self, body: Body, leave: set[Callable[[], None]], holding: Holding) -> None:
        """`leave`: the calls that the caller's connection makes when it is gone."""
        self._body = body
        self._leave = leave
        self._holding = holding
        self._held = 0

    @property
    def complete(self) -> bool:
        """Nothing of the body is still to come."""
        return self._body.arrived and not self._body.size

    def let_go(self) -> None:
        """Its body is needed no more: to be called once the request has ended, however it did."""
        if self._held:
            self._holding.give_back(self._held)
            self._held = 0

    async def read(self, headers: Mapping[bytes, bytes], largest: int, seconds: float) -> bytes:
        """Of a large one, what it takes when it is parsed is held with it."""
        announced = headers.get(b"content-length", b"")
        if announced.isdigit():
            size = int(announced[-LENGTH_DIGITS:])
            if size > largest:
                raise _too_large(largest)
            self._holding.expects(size)
        if self._body.arrived:
            return await self._collect(largest)
        try:
            async with asyncio.timeout(seconds):
                return await self._collect(largest)
        except TimeoutError:
            raise Refusal(408, f"The body did not arrive within {seconds:g} seconds.", code="body_timeout") from None

    async def _collect(self, largest: int) -> bytes:
        body = await self.part()
        self._hold(len(body), largest)
        if not self.complete:
            body = await self._collect_on(bytearray(body), largest)
        if len(body) > SMALL_BYTES:
            self._take(len(body) + await parsed_bytes(body))
        return body

    async def _collect_on(self, body: bytearray, largest: int) -> bytes:
        while not self.complete:
            body += await self.part()
            self._hold(len(body), largest)
        return bytes(body)

    def _hold(self, size: int, largest: int) -> None:
        if size > largest:
            raise _too_large(largest)
        if size > SMALL_BYTES:
            self._take(size)

    def copies(self, body: bytes) -> None:
        """It goes on in other words, beside those in which it came."""
        self._take(self._held + len(body))

    def _take(self, size: int) -> None:
        if size > self._holding.most:
            message = "The body takes more memory than the gateway has for all requests: send less."
            raise Refusal(413, message, code="body_too_large")
        self._holding.take(size - self._held)
        self._held = size

    async def part(self) -> bytes:
        body = self._body
        if not (body.size or body.arrived):
            await body.come()
        return body.taken()

    async def discard(self, seconds: float) -> None:
        """Reads on for a moment, so that a caller in the midst of sending comes to read the refusal: a connection that
        is closed while bytes are under way is reset, and the answer lost with it."""
        try:
            async with asyncio.timeout(seconds):
                while not self.complete:
                    await self.part()
        except (TimeoutError, CallerGone):
            return

    def same_caller(self, body: Body) -> "Incoming":
        """Another request of the same caller, made within."""
        return Incoming(body, self._leave, self._holding)

    def while_there(self, seconds: float | None = None) -> "WhileThere":
        return WhileThere(self._leave, seconds)


class TooLong(Exception):
    """What was bounded in time as a whole."""


class WhileThere:
    """Cancels what is within as soon as the caller hangs up, and then raises CallerGone; or after so many seconds, and
    then raises TooLong.

    Without it a request whose caller left would go on at the engine until its next byte, or for ever.
    """

    __slots__ = ("_leave", "_seconds", "_timer", "_why", "_work")

    def __init__(self, leave: set[Callable[[], None]], seconds: float | None) -> None:
        self._leave = leave
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._why: Exception | None = None

    def __enter__(self) -> None:
        work = asyncio.current_task()
        assert work is not None
        self._work = work
        self._leave.add(self._hung_up)
        if self._seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end, TooLong())

    def _hung_up(self) -> None:
        self._end(CallerGone())

    def _end(self, why: Exception) -> None:
        if self._why is None:
            self._why = why
            self._work.cancel()

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        self._leave.discard(self._hung_up)
        if self._timer is not None:
            self._timer.cancel()
        if self._why is not None and kind is not None and issubclass(kind, asyncio.CancelledError):
            self._work.uncancel()
            raise self._why from None


def _too_large(largest: int) -> Refusal:
    return Refusal(413, f"The body is larger than {largest} bytes: send less.", code="body_too_large")


def parse(body: bytes, headers: Mapping[bytes, bytes]) -> Asked:
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise Refusal(415, "A compressed body is not understood here: send it as it is.", code="compressed_body")
    content = read_json(body)
    if not isinstance(content, dict):
        raise Refusal(400, 'The body must be a JSON object, such as {"model": "..."}.', code="invalid_json")
    model = content.get("model")
    if not isinstance(model, str) or not model:
        raise Refusal(
            400,
            "You must name a model: `model` must be a name from GET /v1/models.",
            code="missing_model" if model is None else "invalid_model",
            param="model",
        )
    stream = content.get("stream")
    if stream is not None and stream is not False:
        _is_told(stream, "stream")
        if (options := content.get("stream_options")) is not None:
            _are_options(options)
    return Asked(model, stream is True, body, content)


def _is_told(value: Any, param: str) -> None:
    """An engine may take 1 or "yes" for true, and would stream without the question for its usage: as OpenAI does, what
    is neither true nor false is refused."""
    if not isinstance(value, bool):
        raise Refusal(400, f"`{param}` must be true or false, without quotes.", code="invalid_type", param=param)


def _are_options(options: Any) -> None:
    if not isinstance(options, dict):
        message = 'The options of a stream must be an object, such as {"include_usage": true}.'
        raise Refusal(400, message, code="invalid_type", param="stream_options")
    if (usage := options.get("include_usage")) is not None:
        _is_told(usage, "stream_options.include_usage")


def read_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(error) from None


def _malformed(error: orjson.JSONDecodeError) -> Refusal:
    """The parser's own words say what and where, save for the text itself, which stays out of answers and logs."""
    where = f"line {error.lineno}, column {error.colno}"
    return Refusal(400, f"The body is not JSON in UTF-8: {error.msg} ({where}).", code="invalid_json")
