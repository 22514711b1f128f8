"""Sends calls and awaits their answers: what blocking/transport.py does, in an event loop."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeVar

import httpx

from imts_client.calls import Call, Follow, Listing
from imts_client.errors import ApiProblem, ConnectionFailed, NotFound
from imts_client.exchange import (
    NOT_SENT,
    PASSING,
    STREAM_PATIENCE_SECONDS,
    client_options,
    document,
    failed,
    items_of,
    request_options,
)
from imts_client.retries import Retries, backoff
from imts_client.sse import Message, Parser
from imts_client.where import Where

T = TypeVar("T")
OnBreak = Callable[[ConnectionFailed], None]


class AsyncTransport:
    def __init__(self, where: Where) -> None:
        self._where = where
        self._http = httpx.AsyncClient(**client_options(where))

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        return call.parse(await self.fetch(call))

    async def fetch(self, call: Call[Any]) -> Any:
        """The answer as the server wrote it."""
        retries = Retries(call.repeatable)
        tries = 0
        while True:
            tries += 1
            try:
                answer = await self._once(call)
            except httpx.HTTPError as error:
                delay = retries.after_break(tries, sent=not isinstance(error, NOT_SENT))
                if delay is None:
                    raise failed(self._where, error) from error
            else:
                delay = retries.after_answer(tries, answer.status_code, answer.headers)
                if delay is None:
                    return self._settled(call, answer, tries)
            await asyncio.sleep(delay)

    async def _once(self, call: Call[Any]) -> httpx.Response:
        if call.upload is None:
            return await self._http.request(**request_options(call, None))
        with call.upload.path.open("rb") as file:
            return await self._http.request(**request_options(call, file))

    @staticmethod
    def _settled(call: Call[Any], answer: httpx.Response, tries: int) -> Any:
        """A removal whose answer was lost finds nothing left to remove: that is what was asked for."""
        try:
            return document(answer)
        except NotFound:
            if call.removes and tries > 1:
                return None
            raise

    async def pages(self, listing: Listing[Any], most: int | None = None) -> AsyncIterator[Any]:
        """Items as the server wrote them, page after page, at most so many."""
        cursor: str | None = None
        while True:
            page = await self.fetch(listing.call(cursor))
            for item in items_of(page):
                if most is not None:
                    if most <= 0:
                        return
                    most -= 1
                yield item
            cursor = page.get("nextCursor")
            if cursor is None or most == 0:
                return

    async def every(self, listing: Listing[T], most: int | None = None) -> AsyncIterator[T]:
        async for item in self.pages(listing, most):
            yield listing.parse(item)

    @contextlib.asynccontextmanager
    async def download(self, call: Call[None]) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        """The size where it is told, and the pieces. It is not taken up again after a break."""
        try:
            async with self._http.stream(**request_options(call, None)) as answer:
                if not answer.is_success:
                    await answer.aread()
                    document(answer)
                size = answer.headers.get("content-length")
                yield int(size) if size and "content-encoding" not in answer.headers else None, answer.aiter_bytes()
        except httpx.HTTPError as error:
            raise failed(self._where, error) from error

    async def follow(
        self, follow: Follow[Any], on_break: OnBreak | None = None, patience: float = STREAM_PATIENCE_SECONDS
    ) -> AsyncIterator[Any]:
        """Every item as the server wrote it, once and in order, across breaks, until the stream says that it ends."""
        tries = 0
        broke_at: float | None = None
        while True:
            try:
                async with contextlib.aclosing(self._attached(follow)) as messages:
                    async for message in messages:
                        if message is None:
                            broke_at = None
                            continue
                        if message.event == "end":
                            return
                        number = follow.number(message)
                        if number is not None:
                            tries = 0
                            follow = follow.going_on_after(number)
                            yield json.loads(message.data)
                broken = failed(self._where, None)
            except httpx.HTTPError as error:
                broken = failed(self._where, error)
            except ApiProblem as problem:
                if problem.status not in PASSING:
                    raise
                broken = ConnectionFailed(f"{self._where.url} is not ready: {problem.detail}")
            tries += 1
            if broke_at is None:
                broke_at = time.monotonic()
                if on_break is not None:
                    on_break(broken)
            if time.monotonic() - broke_at >= patience:
                raise broken
            await asyncio.sleep(backoff(tries))

    async def _attached(self, follow: Follow[Any]) -> AsyncGenerator[Message | None, None]:
        """None once it is attached, then the messages."""
        parser = Parser()
        async with self._http.stream(**request_options(follow.call(), None)) as answer:
            if not answer.is_success:
                await answer.aread()
                document(answer)
            yield None
            async for piece in answer.aiter_bytes():
                for message in parser.feed(piece):
                    yield message
