"""A request to a model, from its first header to the last byte of its answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from loguru import logger

from inference_service.gateway import metrics, requests
from inference_service.gateway.directory import Directory, Model, may_ask
from inference_service.gateway.errors import Cut, Lost, Refusal
from inference_service.gateway.exchange import Limits, Order, Times, exchange, passed_up
from inference_service.gateway.reply import Reply
from inference_service.gateway.requests import CallerGone, Incoming
from inference_service.gateway.targets import Target
from inference_service.gateway.waiting import Waiting

PATHS = {
    "/v1/chat/completions": "/v1/chat/completions",
    "/v1/completions": "/v1/completions",
    "/v1/embeddings": "/v1/embeddings",
    "/v1/responses": "/v1/responses",
    "/v1/tokenize": "/tokenize",
    "/v1/detokenize": "/detokenize",
}
"""Where callers ask, and where the engines answer that."""


@dataclass(frozen=True)
class Bounds:
    body_bytes: int
    body_seconds: float
    whole_seconds: float
    tries: int
    limits: Limits


class Door:
    def __init__(self, directory: Directory, waiting: Waiting, engines: aiohttp.ClientSession, bounds: Bounds) -> None:
        self._directory = directory
        self._waiting = waiting
        self._engines = engines
        self._bounds = bounds

    async def serve(
        self, path: str, headers: Mapping[bytes, bytes], identity: bytes, incoming: Incoming, reply: Reply
    ) -> None:
        """Returns with the reply ended, or broken off: the server then closes the connection without its end."""
        bounds = self._bounds
        caller = self._directory.caller(headers.get(b"authorization", b""), headers.get(b"openai-project"))
        may_ask(caller)
        body = await incoming.read(headers, bounds.body_bytes, bounds.body_seconds)
        begun = time.perf_counter()
        asked = requests.parse(body, headers)
        model = self._directory.find(caller, asked.model)
        counted = metrics.of_model(asked.model)
        order = Order(PATHS[path], passed_up(headers, identity), body, asked.stream)
        counted.in_flight.inc()
        try:
            async with while_there(incoming):
                await self._answer(model, order, reply, begun, counted)
        except CallerGone:
            counted.hung_up.inc()
        except Cut as error:
            counted.cut.inc()
            logger.warning("answer cut", model=asked.model, request=identity.decode(), problem=str(error))
        except Refusal as refusal:
            metrics.requests(asked.model, refusal.status).inc()
            raise
        else:
            metrics.requests(asked.model, reply.status).inc()
        finally:
            counted.in_flight.dec()

    async def _answer(self, model: Model, order: Order, reply: Reply, begun: float, counted: metrics.OfModel) -> None:
        seconds = self._bounds.whole_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._try_engines(model, order, reply, begun, counted)
        except TimeoutError:
            message = f"The whole answer took longer than {seconds:g} seconds."
            if reply.started:
                raise Cut(message) from None
            raise Refusal(504, message, code="timeout") from None

    async def _try_engines(
        self, model: Model, order: Order, reply: Reply, begun: float, counted: metrics.OfModel
    ) -> None:
        """Each engine once at most, while the caller has seen nothing of an answer."""
        tried: list[Target] = []
        not_ours = 0.0
        while True:
            waits_from = time.perf_counter()
            target = await self._waiting.target(model, tried)
            asks_from = time.perf_counter()
            not_ours += asks_from - waits_from
            times = Times()
            try:
                await exchange(self._engines, target, order, self._bounds.limits, reply, times)
            except Lost as lost:
                not_ours += time.perf_counter() - asks_from
                target.failed()
                counted.tries_lost.inc()
                logger.warning("try lost", model=counted.name, engine=target.url, problem=str(lost))
                tried.append(target)
                if len(tried) >= self._bounds.tries:
                    raise _given_up(len(tried), lost) from None
                continue
            except Cut:
                target.failed()
                raise
            finally:
                if reply.began_at:
                    first = reply.began_at - begun
                    counted.first_byte.observe(first)
                    counted.overhead.observe(max(0.0, first - not_ours - times.engine))
            target.answered()
            return


def _given_up(tries: int, lost: Lost) -> Refusal:
    if lost.timed_out:
        return Refusal(504, f"{tries} engines in turn gave no answer in time.", code="engine_timeout")
    return Refusal(502, f"{tries} engines in turn gave no answer.", code="engine_failed", headers={"retry-after": "2"})


@asynccontextmanager
async def while_there(incoming: Incoming) -> AsyncIterator[None]:
    """Cancels what is within as soon as the caller hangs up, and then raises CallerGone.

    Without it a request whose caller left would go on at the engine until its next byte, or for ever.
    """
    work = asyncio.current_task()
    assert work is not None
    hung_up = False

    def leave(watch: asyncio.Task[None]) -> None:
        nonlocal hung_up
        if not watch.cancelled():
            hung_up = True
            work.cancel()

    watch = asyncio.create_task(incoming.until_gone())
    watch.add_done_callback(leave)
    try:
        yield
    except asyncio.CancelledError:
        if not hung_up:
            raise
        work.uncancel()
        raise CallerGone from None
    finally:
        watch.remove_done_callback(leave)
        watch.cancel()
