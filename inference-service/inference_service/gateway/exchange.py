"""One try of one request at one engine. Bytes pass through as they come; what a caller saw begin is never ended for it
as if it were whole."""

import asyncio
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import orjson

from inference_service.gateway.errors import Cut, Headers, Lost, error_content
from inference_service.gateway.reply import Reply
from inference_service.gateway.targets import Target

WHOLE_BYTES = 4 * 2**20
"""An answer of this size or less that is no stream is taken whole before the caller gets a byte: if it breaks off,
another engine can still be asked."""
ERROR_BYTES = 64 * 2**10
LARGE_BODY = 2**20

_PASSED_UP = {
    b"accept": "accept",
    b"content-type": "content-type",
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
}
"""The caller's key is not among them: it is none of the engine's business."""
_NOT_PASSED_DOWN = frozenset(
    {
        b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"proxy-authenticate",
        b"proxy-connection", b"server", b"date", b"x-request-id", b"set-cookie",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Order:
    path: str
    headers: Mapping[str, str]
    body: bytes
    stream: bool


@dataclass(frozen=True, slots=True)
class Limits:
    first_byte_seconds: float
    silence_seconds: float


@dataclass(slots=True)
class Times:
    """`engine`: from the moment the engine was asked to its first byte."""

    engine: float = 0.0


def passed_up(headers: Mapping[bytes, bytes], identity: bytes) -> dict[str, str]:
    told = {name: headers[key].decode("latin-1") for key, name in _PASSED_UP.items() if key in headers}
    told.setdefault("content-type", "application/json")
    told["x-request-id"] = identity.decode()
    return told


async def exchange(
    session: aiohttp.ClientSession, target: Target, order: Order, limits: Limits, reply: Reply, times: Times
) -> None:
    """Raises Lost while the caller has seen nothing, Cut afterwards."""
    target.in_flight += 1
    try:
        async with asyncio.timeout(limits.first_byte_seconds if order.stream else None) as patience:
            asked_at = time.perf_counter()
            response = await session.post(
                target.address(order.path),
                data=order.body if len(order.body) <= LARGE_BODY else io.BytesIO(order.body),
                headers=order.headers,
                allow_redirects=False,
            )
            try:
                first, whole = await _beginning(response)
                times.engine = time.perf_counter() - asked_at
                if whole:
                    await _pass_whole(response, first, reply)
                else:
                    await _pass_stream(response, first, reply, patience, limits.silence_seconds)
            finally:
                response.close()
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Lost(_said(error), refused=True) from error
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        if reply.started:
            raise Cut(_said(error)) from error
        raise Lost(_said(error), timed_out=isinstance(error, TimeoutError)) from error
    finally:
        target.in_flight -= 1


async def _beginning(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """All of the answer, if that is to be had at once, else its first piece.

    An answer without a length or chunks ends where its connection ends, and so cannot be told from one that was cut:
    it is not believed.
    """
    length = response.content_length
    if response.status >= 400:
        return await _up_to(response.content, ERROR_BYTES), True
    if response.status >= 300:
        raise aiohttp.ClientPayloadError(f"a redirection ({response.status}), which no engine should give")
    if response.status != 204 and length is None and "chunked" not in response.headers.get("transfer-encoding", ""):
        raise aiohttp.ClientPayloadError("an answer with neither a length nor chunks")
    if length is not None and length <= WHOLE_BYTES:
        return await response.read(), True
    return await response.content.readany(), False


async def _up_to(content: aiohttp.StreamReader, most: int) -> bytes:
    parts = []
    size = 0
    while size < most and (part := await content.readany()):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


async def _pass_whole(response: aiohttp.ClientResponse, body: bytes, reply: Reply) -> None:
    headers = _passed_down(response)
    if response.status >= 400 and not _openai_error(body):
        body = error_content(response.status, _message(body, response.status), code="engine_error")
        headers = [(b"content-type", b"application/json"), *((n, v) for n, v in headers if n.lower() == b"retry-after")]
    headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    if response.status != 204:
        headers.append((b"content-length", str(len(body)).encode()))
    await reply.start(response.status, headers)
    await reply.end(body)


async def _pass_stream(
    response: aiohttp.ClientResponse, piece: bytes, reply: Reply, patience: asyncio.Timeout, silence: float
) -> None:
    now = asyncio.get_running_loop().time
    next_piece = response.content.readany
    await reply.start(response.status, _passed_down(response))
    while piece:
        await reply.piece(piece)
        patience.reschedule(now() + silence)
        piece = await next_piece()
    await reply.end()


def _passed_down(response: aiohttp.ClientResponse) -> Headers:
    return [(name, value) for name, value in response.raw_headers if name.lower() not in _NOT_PASSED_DOWN]


def _openai_error(body: bytes) -> bool:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(content, dict) and isinstance(content.get("error"), dict) and "message" in content["error"]


def _message(body: bytes, status: int) -> str:
    """The engine's own words, wherever it put them."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = body.decode(errors="replace").strip()
    if isinstance(content, dict):
        content = content.get("message") or content.get("detail") or content.get("error") or content
    text = content if isinstance(content, str) else orjson.dumps(content).decode()
    return text[:2_000] or f"The engine answered {status} and said no more."


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
