"""The gateway as an ASGI app, by hand: on this path every layer is paid for by every request."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
from loguru import logger
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from imts_shared import __version__
from imts_shared.contracts.serving import ServedModel
from inference_service.gateway import metrics
from inference_service.gateway.control_plane import ControlPlane
from inference_service.gateway.directory import Directory
from inference_service.gateway.door import PATHS, Bounds, Door
from inference_service.gateway.errors import Refusal
from inference_service.gateway.exchange import Limits
from inference_service.gateway.feed import Feed
from inference_service.gateway.reply import Reply, Send, request_id
from inference_service.gateway.requests import CallerGone, Incoming, Receive
from inference_service.gateway.waiting import Patience, Waiting, Waker
from inference_service.settings import InferenceSettings

Scope = dict[str, Any]
Headers = dict[bytes, bytes]

JSON = b"application/json"
MODELS = "/v1/models"
DISCARD_SECONDS = 5
IDLE_CONNECTION_SECONDS = 3
"""Less than the 5 s after which vLLM and llama.cpp close an idle connection: one that is taken up again must not be
about to close."""


class Gateway:
    def __init__(self, settings: InferenceSettings) -> None:
        self._settings = settings
        self._started = time.time()
        self._directory = Directory()
        self._door: Door | None = None
        self._feed: Feed | None = None
        self._answers: dict[str, Callable[[Reply], Awaitable[None]]] = {
            "/health": self._health,
            "/healthz": self._health,
            "/readyz": self._ready,
            "/info": self._info,
            "/metrics": self._metrics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        calls = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        engines = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.gateway_connect_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding", "User-Agent"),
            )
        )
        control_plane = ControlPlane(calls, settings.control_plane_url, settings.service_key)
        patience = Patience(settings.gateway_wake_seconds, settings.gateway_settle_seconds)
        self._door = Door(
            self._directory,
            Waiting(self._directory, Waker(control_plane), patience),
            engines,
            Bounds(
                settings.gateway_body_bytes,
                settings.gateway_body_seconds,
                settings.gateway_whole_seconds,
                settings.gateway_tries,
                Limits(settings.gateway_first_byte_seconds, settings.gateway_silence_seconds),
            ),
        )
        self._feed = Feed(self._directory, control_plane, settings.home / "gateway-snapshot.json")
        await self._feed.start()
        following = asyncio.create_task(self._feed.follow())
        following.add_done_callback(_say_why_it_ended)
        stack.callback(following.cancel)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        identity = request_id(headers.get(b"x-request-id"))
        reply = Reply(send, identity)
        incoming = Incoming(receive, complete=scope["method"] == "GET")
        try:
            await self._dispatch(scope["path"], scope["method"], headers, identity, incoming, reply)
        except CallerGone:
            return
        except Refusal as refusal:
            await _refuse(refusal, incoming, reply)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an error and the log gets its trace
            logger.exception("request failed", request=identity.decode())
            if not reply.started:
                await reply.refuse(Refusal(500, "The gateway failed; its log says how.", code="gateway_error"))

    async def _dispatch(
        self, path: str, method: str, headers: Headers, identity: bytes, incoming: Incoming, reply: Reply
    ) -> None:
        if path in PATHS:
            _only("POST", method)
            assert self._door is not None
            await self._door.serve(path, headers, identity, incoming, reply)
        elif path == MODELS or path.startswith(f"{MODELS}/"):
            _only("GET", method)
            await self._models(path, headers, reply)
        elif path in self._answers:
            _only("GET", method)
            await self._answers[path](reply)
        else:
            raise Refusal(404, f"Nothing answers at {method} {path[:200]}.", code="unknown_url")

    async def _models(self, path: str, headers: Headers, reply: Reply) -> None:
        caller = self._directory.caller(headers.get(b"authorization", b""), headers.get(b"openai-project"))
        if path == MODELS:
            data = [_listed(served) for served in self._directory.models(caller)]
            await _json(reply, 200, {"object": "list", "data": data})
            return
        served = self._directory.find(caller, path.removeprefix(f"{MODELS}/")).served
        await _json(reply, 200, _listed(served))

    async def _health(self, reply: Reply) -> None:
        await _json(reply, 200, {"status": "ok"})

    async def _ready(self, reply: Reply) -> None:
        if self._directory.version is not None:
            await _json(reply, 200, {"status": "ready"})
            return
        reason = (self._feed and self._feed.problem) or "no snapshot from the control plane yet"
        await _json(reply, 503, {"status": "not ready", "reason": reason})

    async def _info(self, reply: Reply) -> None:
        feed = self._feed
        await _json(
            reply,
            200,
            {
                "service": "gateway",
                "version": __version__,
                "pid": os.getpid(),
                "startedAt": self._started,
                "snapshot": self._directory.version,
                "controlPlane": {"heardAt": feed and feed.heard_at, "problem": feed and feed.problem},
            },
        )

    async def _metrics(self, reply: Reply) -> None:
        if self._feed is not None and self._feed.heard_at is not None:
            metrics.SNAPSHOT_AGE.set(time.time() - self._feed.heard_at)
        await reply.whole(200, CONTENT_TYPE_LATEST.encode(), generate_latest())


def _only(allowed: str, method: str) -> None:
    if method != allowed:
        raise Refusal(405, f"Ask with {allowed}, not {method}.", code="method_not_allowed", headers={"allow": allowed})


def _listed(served: ServedModel) -> dict[str, Any]:
    created = int(served.created_at.timestamp()) if served.created_at else 0
    return {"id": served.name, "object": "model", "created": created, "owned_by": served.project}


async def _json(reply: Reply, status: int, content: dict[str, Any]) -> None:
    await reply.whole(status, JSON, orjson.dumps(content))


async def _refuse(refusal: Refusal, incoming: Incoming, reply: Reply) -> None:
    """A body that was not read is discarded for a while, and its connection not used again."""
    await reply.refuse(refusal, last=incoming.complete)
    if not incoming.complete:
        await incoming.discard(DISCARD_SECONDS)
        await reply.end()


def _say_why_it_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.opt(exception=error).critical("snapshots are followed no more")
        os._exit(1)
