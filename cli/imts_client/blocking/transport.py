"""Sends calls and waits for their answers."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
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


class Transport:
    def __init__(self, where: Where) -> None:
        self._where = where
        self._http = httpx.Client(**client_options(where))

    def close(self) -> None:
        self._http.close()

    def send(self, call: Call[T]) -> T:
        return call.parse(self.fetch(call))

    def fetch(self, call: Call[Any]) -> Any:
        """The answer as the server wrote it."""
        retries = Retries(call.repeatable)
        tries = 0
        while True:
            tries += 1
            try:
                answer = self._once(call)
            except httpx.HTTPError as error:
                delay = retries.after_break(tries, sent=not isinstance(error, NOT_SENT))
                if delay is None:
                    raise failed(self._where, error) from error
            else:
                delay = retries.after_answer(tries, answer.status_code, answer.headers)
                if delay is None:
                    return self._settled(call, answer, tries)
            time.sleep(delay)

    def _once(self, call: Call[Any]) -> httpx.Response:
        if call.upload is None:
            return self._http.request(**request_options(call, None))
        with call.upload.path.open("rb") as file:
            return self._http.request(**request_options(call, file))

    @staticmethod
    def _settled(call: Call[Any], answer: httpx.Response, tries: int) -> Any:
        """A removal whose answer was lost finds nothing left to remove: that is what was asked for."""
        try:
            return document(answer)
        except NotFound:
            if call.removes and tries > 1:
                return None
            raise

    def pages(self, listing: Listing[Any], most: int | None = None) -> Iterator[Any]:
        """Items as the server wrote them, page after page, at most so many."""
        cursor: str | None = None
        while True:
            page = self.fetch(listing.call(cursor))
            for item in items_of(page):
                if most is not None:
                    if most <= 0:
                        return
                    most -= 1
                yield item
            cursor = page.get("nextCursor")
            if cursor is None or most == 0:
                return

    def every(self, listing: Listing[T], most: int | None = None) -> Iterator[T]:
        return (listing.parse(item) for item in self.pages(listing, most))

    @contextlib.contextmanager
    def download(self, call: Call[None]) -> Iterator[tuple[int | None, Iterator[bytes]]]:
        """The size where it is told, and the pieces. It is not taken up again after a break."""
        try:
            with self._http.stream(**request_options(call, None)) as answer:
                if not answer.is_success:
                    answer.read()
                    document(answer)
                size = answer.headers.get("content-length")
                yield int(size) if size and "content-encoding" not in answer.headers else None, answer.iter_bytes()
        except httpx.HTTPError as error:
            raise failed(self._where, error) from error

    def follow(
        self, follow: Follow[Any], on_break: OnBreak | None = None, patience: float = STREAM_PATIENCE_SECONDS
    ) -> Iterator[Any]:
        """Every item as the server wrote it, once and in order, across breaks, until the stream says that it ends."""
        tries = 0
        broke_at: float | None = None
        while True:
            try:
                for message in self._attached(follow):
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
            time.sleep(backoff(tries))

    def _attached(self, follow: Follow[Any]) -> Iterator[Message | None]:
        """None once it is attached, then the messages."""
        parser = Parser()
        with self._http.stream(**request_options(follow.call(), None)) as answer:
            if not answer.is_success:
                answer.read()
                document(answer)
            yield None
            for piece in answer.iter_bytes():
                yield from parser.feed(piece)
