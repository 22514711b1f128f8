"""A control plane that knows the gateway's two calls and nothing else."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from imts_shared.contracts.access import Role
from imts_shared.contracts.serving import KnownKey, ServedModel, Snapshot, Target
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


class Platform:
    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.wakes: list[str] = []
        self.on_wake: Callable[[str], web.Response] = lambda _id: web.json_response({}, status=202)
        self.away = False
        self._snapshot = Snapshot(version="v0", keys=list(KEYS), models=[])
        self._changed = asyncio.Event()

    @property
    def version(self) -> str:
        return self._snapshot.version

    def publish(self, *models: ServedModel, keys: Sequence[KnownKey] = KEYS) -> str:
        version = f"v{int(self._snapshot.version[1:]) + 1}"
        self._snapshot = Snapshot(version=version, keys=list(keys), models=list(models))
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

    def _check(self, request: web.Request) -> None:
        if self.away:
            raise web.HTTPServiceUnavailable
        if request.headers.get("authorization") != f"Bearer {SERVICE_KEY}":
            raise web.HTTPUnauthorized


@asynccontextmanager
async def platform() -> AsyncIterator[Platform]:
    here = Platform(free_port())
    app = web.Application()
    app.router.add_get("/internal/gateway/snapshot", here.snapshot)
    app.router.add_post("/internal/deployments/{id}/wake", here.wake)
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
