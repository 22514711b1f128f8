"""A control plane that knows the gateway's calls and nothing else."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from imts_shared.contracts.access import Role
from imts_shared.contracts.providers import ProviderKind, ProviderModel
from imts_shared.contracts.routes import Decision, Feedback, Lesson, Lessons
from imts_shared.contracts.serving import KnownKey, KnownProvider, ServedModel, Snapshot, Target
from imts_shared.contracts.usage import GatewayReport, Used
from imts_shared.sealing import ServiceSeal
from tests.conftest import SERVICE_KEY, free_port

MEMBER = "sk-member-0123456789abcdef"
OTHER = "sk-other-project-0123456789"
ADMIN = "sk-admin-0123456789abcdef"
VIEWER = "sk-viewer-0123456789abcdef"
EXPIRED = "sk-expired-0123456789abcde"


def known(secret: str, role: Role, project: str | None, expires_at: datetime | None = None) -> KnownKey:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return KnownKey(id=f"key-{secret[3:9]}", sha256=digest, role=role, project=project, expires_at=expires_at)


KEYS = [
    known(MEMBER, Role.member, "default"),
    known(OTHER, Role.inference, "other"),
    known(ADMIN, Role.admin, None),
    known(VIEWER, Role.viewer, "default"),
    known(EXPIRED, Role.member, "default", datetime(2020, 1, 1, tzinfo=UTC)),
]


def served(name: str, *urls: str, state: Any = "ready", project: str = "default", **more: Any) -> ServedModel:
    """A replica's name is its address, unless the caller says otherwise by `address#replica`."""
    targets = [Target(url=url.partition("#")[0], replica=url) for url in urls]
    return ServedModel(
        name=name, project=project, deployment_id=f"dep-{project}-{name}", state=state, targets=targets, **more
    )


def provider(
    name: str, url: str, *models: str | ProviderModel, key: str | None = "provider-secret", **more: Any
) -> KnownProvider:
    """At an address of this machine, which an admin has allowed, unless the caller says otherwise."""
    sealed = ServiceSeal(SERVICE_KEY).seal(key, f"id-{name}") if key else None
    return KnownProvider(
        **{
            "id": f"id-{name}",
            "name": name,
            "kind": ProviderKind.openai,
            "base_url": url,
            "sealed_key": sealed,
            "models": [ProviderModel(name=one) if isinstance(one, str) else one for one in models],
            "allow_internal": True,
            **more,
        }
    )


def _told(feedback: Feedback) -> dict[str, Any]:
    return feedback.model_dump(include={"quality", "weight", "result", "label", "key_id", "at"})


async def _nothing_decided(_request: web.Request) -> web.Response:
    return web.json_response({"items": []})


class Platform:
    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.wakes: list[str] = []
        self.on_wake: Callable[[str], web.Response] = lambda _id: web.json_response({}, status=202)
        self.away = False
        self.reports: list[GatewayReport] = []
        self.lessons: list[Lesson] = []
        self._decisions: dict[str, Decision] = {}
        self.forwarded: list[tuple[str, str, dict[str, str], bytes]] = []
        self.download_left = asyncio.Event()
        self.decided: Callable[[web.Request], Awaitable[web.Response]] = _nothing_decided
        self._snapshot = Snapshot(version="v0", keys=list(KEYS), models=[])
        self._changed = asyncio.Event()
        self._taught = asyncio.Event()

    @property
    def version(self) -> str:
        return self._snapshot.version

    def publish(self, *models: ServedModel, keys: Sequence[KnownKey] = KEYS, **more: Any) -> str:
        version = f"v{int(self._snapshot.version[1:]) + 1}"
        self._snapshot = Snapshot(version=version, keys=list(keys), models=list(models), **more)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return version

    async def snapshot(self, request: web.Request) -> web.Response:
        self._check(request)
        deadline = asyncio.get_running_loop().time() + float(request.query.get("wait", "0"))
        while request.query.get("version") == self._snapshot.version:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                break
        self._check(request)
        return web.Response(text=self._snapshot.model_dump_json(), content_type="application/json")

    async def wake(self, request: web.Request) -> web.Response:
        self._check(request)
        self.wakes.append(request.match_info["id"])
        await asyncio.sleep(0.05)
        return self.on_wake(request.match_info["id"])

    async def report(self, request: web.Request) -> web.Response:
        """Applied once, as the real one does it."""
        self._check(request)
        said = GatewayReport.model_validate_json(await request.read())
        known = max((one.number for one in self.reports if one.gateway == said.gateway), default=0)
        if said.number > known:
            self.reports.append(said)
            self._learn(said)
        return web.json_response({"number": max(said.number, known)})

    def _learn(self, said: GatewayReport) -> None:
        for decision in said.decisions:
            self._decisions[decision.decision_id] = decision
            if decision.result is not None:
                about = {"key_id": decision.key_id, "asked": decision.asked}
                self._teach(said.gateway, decision, result=decision.result, **about)
        for feedback in said.feedback:
            self._teach(said.gateway, self._decisions[feedback.decision_id], **_told(feedback))

    async def until_told_of(self, decision_id: str) -> None:
        for _ in range(250):
            if decision_id in self._decisions:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"nobody told of {decision_id}")

    def _teach(self, gateway: str, decision: Decision, **more: Any) -> Lesson:
        lesson = Lesson(
            **{"at": decision.at, **more},
            number=len(self.lessons) + 1,
            gateway=gateway,
            project=decision.project,
            route=decision.route,
            model=decision.model,
            decision_id=decision.decision_id,
            features=decision.features,
            context=decision.context,
        )
        self.lessons.append(lesson)
        taught, self._taught = self._taught, asyncio.Event()
        taught.set()
        return lesson

    async def lessons_after(self, request: web.Request) -> web.Response:
        self._check(request)
        after = int(request.query["after"])
        taught = self._taught
        if "start" not in request.query and not self.lessons[after:]:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(taught.wait(), float(request.query["wait"]))
        items = self.lessons[after : after + int(request.query["limit"])]
        number = after + len(items)
        told = Lessons(items=items, number=number, more=number < len(self.lessons))
        return web.Response(text=told.model_dump_json(by_alias=True), content_type="application/json")

    async def feedback(self, request: web.Request) -> web.Response:
        self._check(request)
        said = Feedback.model_validate_json(await request.read())
        decision = self._decisions.get(said.decision_id)
        if decision is None or said.project not in (None, decision.project):
            return web.json_response({"code": "unknown_decision", "detail": "There is none."}, status=404)
        lesson = self._teach(request.query["gateway"], decision, **_told(said))
        return web.Response(text=lesson.model_dump_json(by_alias=True), content_type="application/json")

    def used(self) -> dict[tuple[str, str], Used]:
        """By model and upstream, summed over parts."""
        found: dict[tuple[str, str], Used] = {}
        for used in (one for report in self.reports for one in report.used):
            there = found.get((used.model, used.upstream))
            if there is None:
                found[used.model, used.upstream] = used.model_copy()
                continue
            for name in ("requests", "failed", "input_tokens", "cached_tokens", "output_tokens", "estimated_tokens"):
                setattr(there, name, getattr(there, name) + getattr(used, name))
            there.cost += used.cost
        return found

    async def spent(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response([])

    async def decisions(self, request: web.Request) -> web.Response:
        return await self.decided(request)

    async def endless(self, request: web.Request) -> web.StreamResponse:
        """A download; it is noted when whoever takes it has left."""
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(1_000):
                await response.write(b"x" * 100_000)
                await asyncio.sleep(0.02)
        except ConnectionError:
            self.download_left.set()
        return response

    async def beside(self, request: web.Request) -> web.Response:
        """What an OpenAI client asks of the control plane itself."""
        self.forwarded.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        if request.path.endswith("/missing"):
            problem = {"code": "unknown_file", "detail": "There is no file 'missing' here.", "hint": "List them."}
            return web.json_response(problem, status=404, content_type="application/problem+json")
        return web.json_response({"object": "file", "id": "file-1"})

    def _check(self, request: web.Request) -> None:
        if self.away:
            raise web.HTTPServiceUnavailable
        if request.headers.get("authorization") != f"Bearer {SERVICE_KEY}":
            raise web.HTTPUnauthorized


@asynccontextmanager
async def platform() -> AsyncIterator[Platform]:
    here = Platform(free_port())
    app = web.Application(client_max_size=100 * 2**20)
    app.router.add_get("/internal/gateway/snapshot", here.snapshot)
    app.router.add_post("/internal/deployments/{id}/wake", here.wake)
    app.router.add_post("/internal/gateway/reports", here.report)
    app.router.add_get("/internal/gateway/lessons", here.lessons_after)
    app.router.add_post("/internal/gateway/feedback", here.feedback)
    app.router.add_get("/internal/gateway/spent", here.spent)
    app.router.add_get("/api/routing/decisions", here.decisions)
    app.router.add_get("/v1/files/endless/content", here.endless)
    app.router.add_route("*", "/v1/{path:.*}", here.beside)
    async with serving(app, here.port):
        yield here


@asynccontextmanager
async def serving(app: web.Application, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()
