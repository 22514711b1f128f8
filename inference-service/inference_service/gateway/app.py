"""The gateway as a whole: what it is made of, and which part answers what."""

import asyncio
import contextlib
import hmac
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import aiohttp
import orjson
from loguru import logger
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from imts_shared import __version__
from imts_shared.contracts.routes import AUTO
from imts_shared.sealing import ServiceSeal
from inference_service.gateway import metrics
from inference_service.gateway.accounts import Accounts
from inference_service.gateway.afterwards import Afterwards
from inference_service.gateway.api import Api
from inference_service.gateway.callers import Request
from inference_service.gateway.claims import Claims
from inference_service.gateway.connections import Connections
from inference_service.gateway.control_plane import ControlPlane
from inference_service.gateway.directory import DEFAULT_PROJECT, Directory, Model
from inference_service.gateway.door import PATHS, Bounds, Door
from inference_service.gateway.elsewhere import Elsewhere
from inference_service.gateway.errors import Cut, Refusal
from inference_service.gateway.exchange import Limits
from inference_service.gateway.feed import Feed
from inference_service.gateway.forward import Forward, is_forwarded
from inference_service.gateway.holding import Holding
from inference_service.gateway.judge import Judge
from inference_service.gateway.learners import Learners
from inference_service.gateway.ledger import Ledger
from inference_service.gateway.lessons import Hearing
from inference_service.gateway.memory import keep_calm, set_aside
from inference_service.gateway.quota import Quota
from inference_service.gateway.replay import Replay
from inference_service.gateway.reply import Reply, request_id
from inference_service.gateway.requests import CallerGone, Incoming
from inference_service.gateway.router import Router
from inference_service.gateway.tracing import Tracing
from inference_service.gateway.tries import Tries
from inference_service.gateway.waiting import Patience, Waiting, Waker
from inference_service.settings import InferenceSettings

Message = dict[str, Any]
Headers = dict[bytes, bytes]

JSON = b"application/json"
MODELS = "/v1/models"
RESPONSES = "/v1/responses/"
DISCARD_SECONDS = 5


class Gateway:
    def __init__(self, settings: InferenceSettings) -> None:
        self._settings = settings
        self._started = time.time()
        self._holding = Holding(settings.gateway_bodies_bytes)
        self._largest_body = min(settings.gateway_body_bytes, settings.gateway_bodies_bytes)
        self._afterwards = Afterwards()
        self._directory = Directory(ServiceSeal(settings.service_key.get_secret_value()).open)
        self._door: Door | None = None
        self._feed: Feed | None = None
        self._forward: Forward | None = None
        self._api: Api | None = None
        self._ledger: Ledger | None = None
        self._answers: dict[str, Callable[[Reply], Awaitable[None]]] = {
            "/health": self._health,
            "/healthz": self._health,
            "/readyz": self._ready,
            "/info": self._info,
        }

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """ASGI's, for the server to say when all begins and ends; requests come to `answer`."""
        if scope["type"] != "lifespan":
            raise RuntimeError(f"{scope['type']} does not come this way")
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        calls = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        connections = await stack.enter_async_context(Connections(settings.gateway_connect_seconds))
        control_plane = ControlPlane(calls, settings.control_plane_url, settings.service_key)
        patience = Patience(settings.gateway_wake_seconds, settings.gateway_settle_seconds)
        self._forward = Forward(calls, settings.control_plane_url, settings.gateway_silence_seconds)
        ledger = self._ledger = Ledger(control_plane, settings.home / "gateway-reports")
        await ledger.start()
        stack.push_async_callback(ledger.close)
        stack.callback(self._afterwards.all)
        _in_background(stack, ledger.follow(), "usage is told no more")
        limits = Limits(
            settings.gateway_first_byte_seconds, settings.gateway_silence_seconds, settings.gateway_try_seconds
        )
        quota = Quota(settings.redis_url.get_secret_value(), control_plane.spent)
        await quota.start()
        stack.push_async_callback(quota.close)
        waiting = Waiting(self._directory, Waker(control_plane), patience)
        learners = Learners(self._directory)
        learners.extractor(DEFAULT_PROJECT)
        judge = Judge(self._directory, waiting, connections, Claims(self._directory, quota, ledger))
        elsewhere = Elsewhere(control_plane, learners, ledger.life)
        router = Router(self._directory, learners, quota, ledger, elsewhere, judge, self._afterwards)
        tracing = Tracing(settings.otlp_url) if settings.otlp_url else None
        if tracing is not None:
            stack.push_async_callback(asyncio.to_thread, tracing.close)
        accounts = Accounts(self._directory, quota, router, ledger, self._afterwards)
        self._door = Door(
            self._directory,
            router,
            Tries(waiting, quota, connections, limits, settings.gateway_tries, tracing),
            accounts,
            Bounds(self._largest_body, settings.gateway_body_seconds, settings.gateway_whole_seconds),
            tracing,
        )
        replay = Replay(settings.control_plane_url, settings.gateway_evaluate_seconds)
        self._api = Api(self._directory, self._door, router, learners, accounts, elsewhere, replay, self._largest_body)
        self._feed = Feed(self._directory, control_plane, settings.home / "gateway-snapshot.json")
        await self._feed.start()
        _in_background(stack, self._feed.follow(), "snapshots are followed no more")
        hearing = Hearing(control_plane, learners, router, ledger.life)
        _in_background(stack, hearing.follow(), "lessons are heard no more")
        set_aside()
        _in_background(stack, keep_calm(self._directory), "the collector is not kept calm")

    async def answer(self, request: Request) -> None:
        identity = request_id(request.headers.get(b"x-request-id"))
        reply = Reply(request, identity)
        incoming = Incoming(request, request.leave, self._holding)
        try:
            await self._dispatch(request, identity, incoming, reply)
        except (CallerGone, Cut):
            return
        except Refusal as refusal:
            await _refuse(refusal, incoming, reply)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an error and the log gets its trace
            logger.exception("request failed", request=identity.decode())
            if not reply.started:
                await reply.refuse(Refusal(500, "The gateway failed; its log says how.", code="gateway_error"))
        finally:
            incoming.let_go()

    async def _dispatch(self, request: Request, identity: bytes, incoming: Incoming, reply: Reply) -> None:
        path, method, headers = request.path, request.method, request.headers
        if path in PATHS:
            _only("POST", method)
            assert self._door is not None
            await self._door.serve(path, headers, identity, incoming, reply)
        elif path == MODELS or path.startswith(f"{MODELS}/"):
            _only("GET", method)
            await self._models(path, headers, reply)
        elif path.startswith("/api/") or path == "/models":
            await self._beside(request, identity, incoming, reply)
        elif is_forwarded(request.raw_path):
            assert self._forward is not None
            await self._forward.pass_on(method, path, request.query, headers, identity, incoming, reply)
        elif path.startswith(RESPONSES):
            raise _not_stored()
        elif path == "/metrics":
            _only("GET", method)
            self._may_scrape(headers)
            await self._metrics(reply)
        elif path in self._answers:
            _only("GET", method)
            await self._answers[path](reply)
        else:
            raise Refusal(404, f"Nothing answers at {method} {path[:200]}.", code="unknown_url")

    async def _beside(self, request: Request, identity: bytes, incoming: Incoming, reply: Reply) -> None:
        path, method, headers = request.path, request.method, request.headers
        assert self._api is not None
        self._afterwards.all()
        if path == "/models":
            _only("GET", method)
            await self._api.models(headers, reply)
        elif path == "/api/routing/stats":
            _only("GET", method)
            await self._api.stats(headers, request.query.decode("latin-1"), reply)
        elif path == "/api/chat":
            _only("POST", method)
            await self._api.chat(headers, identity, incoming, reply)
        elif path == "/api/routing/evaluate":
            _only("POST", method)
            await self._api.evaluate(headers, incoming, reply)
        elif path in self._api.posts:
            _only("POST", method)
            await self._api.post(path, headers, incoming, reply)
        else:
            raise Refusal(404, f"Nothing answers at {method} {path[:200]}.", code="unknown_url")

    async def _models(self, path: str, headers: Headers, reply: Reply) -> None:
        caller = self._directory.caller(headers.get(b"authorization", b""), headers.get(b"openai-project"))
        routes = set(self._directory.routes(self._directory.project_of(caller)))
        if path == MODELS:
            data = [_listed(model) for model in self._directory.models(caller)]
            routes -= {one["id"] for one in data}
            await _json(reply, 200, {"object": "list", "data": [*data, *map(_listed_route, sorted(routes))]})
            return
        name = path.removeprefix(f"{MODELS}/")
        if name in {AUTO, *routes} and self._directory.find_if_there(caller, name) is None:
            await _json(reply, 200, _listed_route(name))
        else:
            await _json(reply, 200, _listed(self._directory.find(caller, name)))

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
                "controlPlane": {
                    "heardAt": feed and feed.heard_at,
                    "problem": feed and feed.problem,
                    "untold": self._ledger and self._ledger.untold + len(self._afterwards),
                },
            },
        )

    def _may_scrape(self, headers: Headers) -> None:
        key = self._settings.gateway_metrics_key
        if key is None:
            return
        scheme, _, said = headers.get(b"authorization", b"").partition(b" ")
        known = key.get_secret_value().encode()
        if scheme.lower() != b"bearer" or not hmac.compare_digest(said.strip(), known):
            message = "The metrics have a key of their own: send it as `Authorization: Bearer <key>`."
            raise Refusal(401, message, code="invalid_metrics_key", headers={"www-authenticate": "Bearer"})

    async def _metrics(self, reply: Reply) -> None:
        self._afterwards.all()
        metrics.BODIES_BYTES.set(self._holding.held)
        if self._feed is not None and self._feed.heard_at is not None:
            metrics.SNAPSHOT_AGE.set(time.time() - self._feed.heard_at)
        await reply.whole(200, CONTENT_TYPE_LATEST.encode(), generate_latest())


def _only(allowed: str, method: str) -> None:
    if method != allowed:
        raise Refusal(405, f"Ask with {allowed}, not {method}.", code="method_not_allowed", headers={"allow": allowed})


def _not_stored() -> Refusal:
    return Refusal(
        404,
        "The gateway keeps no responses, and does not know which engine may have stored this one: it can be neither"
        " fetched nor cancelled nor deleted here. Take what you need of the answer to its POST, and send a conversation"
        " whole with each request.",
        code="response_not_stored",
    )


def _listed(model: Model) -> dict[str, Any]:
    made_at = model.served.created_at if model.served else None
    owner = model.project or (model.offers[0].target.name if model.offers else "imts")
    return {
        "id": model.name,
        "object": "model",
        "created": int(made_at.timestamp()) if made_at else 0,
        "owned_by": owner,
    }


def _listed_route(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "route"}


async def _json(reply: Reply, status: int, content: dict[str, Any]) -> None:
    await reply.whole(status, JSON, orjson.dumps(content))


async def _refuse(refusal: Refusal, incoming: Incoming, reply: Reply) -> None:
    """A body that was not read is discarded for a while, and its connection not used again."""
    await reply.refuse(refusal, last=incoming.complete)
    if not incoming.complete:
        await incoming.discard(DISCARD_SECONDS)
        await reply.end()


def _in_background(stack: contextlib.AsyncExitStack, work: Coroutine[Any, Any, None], end: str) -> None:
    """For the life of the process, which ends if this does."""

    def say_why(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).critical(end)
            os._exit(1)

    task = asyncio.create_task(work)
    task.add_done_callback(say_why)
    stack.callback(task.cancel)
