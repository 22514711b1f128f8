"""What an OpenAI client asks beside models (files, fine-tuning, batches) is the control plane's to answer."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping

import aiohttp
import orjson
from yarl import URL

from inference_service.gateway.errors import Cut, Refusal, error_content, unavailable
from inference_service.gateway.reply import Reply
from inference_service.gateway.requests import Incoming

_FORWARDED = re.compile(r"/v1/(?:files|fine_tuning|batches|uploads)(?:/[A-Za-z0-9_-][A-Za-z0-9._:-]*)*/?")
"""Names and numbers alone: nothing that a server on the way could take for another path."""
ERROR_BYTES = 64 * 2**10
_UP = (b"authorization", b"content-type", b"content-length", b"accept", b"openai-project", b"openai-organization")
_DOWN = ("content-type", "content-length", "content-disposition", "retry-after", "x-should-retry")


def is_forwarded(path: str) -> bool:
    return _FORWARDED.fullmatch(path) is not None


class Forward:
    def __init__(self, session: aiohttp.ClientSession, url: str, silence_seconds: float) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._silence_seconds = silence_seconds
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=silence_seconds)

    async def pass_on(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: Mapping[bytes, bytes],
        identity: bytes,
        incoming: Incoming,
        reply: Reply,
    ) -> None:
        """With the caller's own key: what it may do there is not judged here. The body passes as it comes, however
        large a file it is."""
        has_body = b"content-length" in headers or b"transfer-encoding" in headers
        told = {name.decode(): headers[name].decode("latin-1") for name in _UP if name in headers}
        told["x-request-id"] = identity.decode()
        url = URL(f"{self._url}{path}" + (f"?{query.decode('latin-1')}" if query else ""), encoded=True)
        try:
            with incoming.while_there():
                await self._pass(
                    method, url, pieces(incoming, self._silence_seconds) if has_body else None, told, reply
                )
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            if reply.started:
                raise Cut(str(error) or type(error).__name__) from error
            raise unavailable(
                "The control plane does not answer: try again.", "control_plane_away", retry_after=2
            ) from error

    async def _pass(
        self, method: str, url: URL, body: AsyncIterator[bytes] | None, headers: Mapping[str, str], reply: Reply
    ) -> None:
        async with self._session.request(
            method, url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
        ) as answer:
            if answer.status >= 400:
                await _tell_error(answer, url.path, reply)
                return
            await reply.start(answer.status, _passed_down(answer))
            await reply.flush()
            async for piece in answer.content.iter_any():
                async with asyncio.timeout(self._silence_seconds):
                    await reply.piece(piece)
            await reply.end()


async def pieces(incoming: Incoming, silence_seconds: float) -> AsyncIterator[bytes]:
    while not incoming.complete:
        async with asyncio.timeout(silence_seconds):
            part = await incoming.part()
        yield part


async def _tell_error(answer: aiohttp.ClientResponse, path: str, reply: Reply) -> None:
    """In OpenAI's shape, whichever the control plane has."""
    body = await answer.content.read(ERROR_BYTES)
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    if isinstance(content, dict) and isinstance(content.get("error"), dict):
        told = body
    elif isinstance(content, dict) and isinstance(content.get("detail"), str):
        message = " ".join(filter(None, (content["detail"], content.get("hint"))))
        told = error_content(answer.status, message, content.get("code"), content.get("field"))
    elif answer.status in {404, 405}:
        raise Refusal(answer.status, f"The control plane has nothing at {path[:200]}.", code="unknown_url")
    else:
        told = error_content(answer.status, f"The control plane answered {answer.status}.", "control_plane_error")
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(told)).encode())]
    if "retry-after" in answer.headers:
        headers.append((b"retry-after", answer.headers["retry-after"].encode()))
    await reply.start(answer.status, headers)
    await reply.end(told)


def _passed_down(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), answer.headers[name].encode("latin-1")) for name in _DOWN if name in answer.headers]
