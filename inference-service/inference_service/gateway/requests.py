"""A request's body: read within bounds, parsed once, and passed on as it came."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from inference_service.gateway.errors import Refusal

Receive = Callable[[], Awaitable[dict[str, Any]]]


class CallerGone(Exception):
    """Whoever asked has hung up: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    model: str
    stream: bool
    body: bytes


class Incoming:
    """What comes from the caller. `complete`: nothing of the body is still to come."""

    __slots__ = ("_receive", "complete")

    def __init__(self, receive: Receive, *, complete: bool) -> None:
        self._receive = receive
        self.complete = complete

    async def read(self, headers: Mapping[bytes, bytes], largest: int, seconds: float) -> bytes:
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > largest:
            raise _too_large(largest)
        try:
            async with asyncio.timeout(seconds):
                return await self._collect(largest)
        except TimeoutError:
            raise Refusal(408, f"The body did not arrive within {seconds:g} seconds.", code="body_timeout") from None

    async def _collect(self, largest: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            part = await self._part()
            size += len(part)
            if size > largest:
                raise _too_large(largest)
            if self.complete:
                return b"".join([*parts, part]) if parts else part
            parts.append(part)

    async def _part(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.complete = True
            raise CallerGone
        self.complete = not message.get("more_body")
        return bytes(message.get("body", b""))

    async def discard(self, seconds: float) -> None:
        """Reads on for a moment, so that a caller in the midst of sending comes to read the refusal: a connection that
        is closed while bytes are under way is reset, and the answer lost with it."""
        try:
            async with asyncio.timeout(seconds):
                while not self.complete:
                    await self._part()
        except (TimeoutError, CallerGone):
            return

    async def until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _too_large(largest: int) -> Refusal:
    return Refusal(413, f"The body is larger than {largest} bytes: send less.", code="body_too_large")


def parse(body: bytes, headers: Mapping[bytes, bytes]) -> Asked:
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise Refusal(415, "A compressed body is not understood here: send it as it is.", code="compressed_body")
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(error) from None
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
    return Asked(model, content.get("stream") is True, body)


def _malformed(error: orjson.JSONDecodeError) -> Refusal:
    """The parser's own words say what and where, save for the text itself, which stays out of answers and logs."""
    where = f"line {error.lineno}, column {error.colno}"
    return Refusal(400, f"The body is not JSON in UTF-8: {error.msg} ({where}).", code="invalid_json")
