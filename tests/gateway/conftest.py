import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from imts_shared.contracts.serving import KnownKey, ServedModel
from imts_shared.contracts.usage import Used
from tests.conftest import SERVICE_KEY, free_port
from tests.gateway.platform_side import KEYS, MEMBER, Platform, platform

QUICK = {
    "IMTS_GATEWAY_FIRST_BYTE_SECONDS": "1",
    "IMTS_GATEWAY_SILENCE_SECONDS": "1",
    "IMTS_GATEWAY_WHOLE_SECONDS": "8",
    "IMTS_GATEWAY_WAKE_SECONDS": "2",
    "IMTS_GATEWAY_SETTLE_SECONDS": "1",
    "IMTS_GATEWAY_BODY_SECONDS": "1",
    "IMTS_GATEWAY_HEAD_SECONDS": "1",
}


class Gateway:
    """The real process. `session` asks it as a member of the project `default`."""

    def __init__(self, port: int, home: Path, platform_url: str, **settings: str) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.home = home
        self.kept = home / "gateway-snapshot.json"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("IMTS_")}
        told = {
            "IMTS_HOME": str(home),
            "IMTS_INFERENCE_PORT": str(port),
            "IMTS_CONTROL_PLANE_URL": platform_url,
            "IMTS_SERVICE_KEY": SERVICE_KEY,
            "IMTS_REDIS_URL": "redis://127.0.0.1:1",
            "IMTS_STORAGE_URL": home.as_uri(),
            **QUICK,
            **settings,
        }
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / "gateway.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "inference_service", "gateway"],
                env={**environment, **told},
                stdout=log,
                stderr=log,
            )

    async def get(self, path: str, key: str | None = MEMBER, **more: Any) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with (
            aiohttp.ClientSession(self.url, headers=headers) as session,
            session.get(path, **more) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def chat(self, model: str, key: str | None = MEMBER, **more: Any) -> tuple[int, Any]:
        asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
        status, content, _ = await self.post("/v1/chat/completions", key, json=asked)
        return status, content

    async def post(self, path: str, key: str | None = MEMBER, **more: Any) -> tuple[int, Any, Any]:
        headers = {**({"authorization": f"Bearer {key}"} if key else {}), **more.pop("headers", {})}
        async with (
            aiohttp.ClientSession(self.url, headers=headers) as session,
            session.post(path, **more) as answer,
        ):
            return answer.status, await answer.json(content_type=None), answer.headers

    async def until_up(self) -> None:
        for _ in range(400):
            if self.process.poll() is not None:
                raise AssertionError(self.log.read_text())
            try:
                await self.get("/healthz")
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
            else:
                return
        raise AssertionError("the gateway does not answer: " + self.log.read_text())

    async def until_knows(self, version: str) -> None:
        for _ in range(300):
            if (await self.get("/info"))[1]["snapshot"] == version:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"the gateway never heard of {version}")

    async def until_all_is_told(self) -> None:
        for _ in range(300):
            if not (await self.get("/info"))[1]["controlPlane"]["untold"]:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the gateway has still something to tell")


@contextmanager
def gateway_process(home: Path, platform_url: str, **settings: str) -> Iterator[Gateway]:
    gateway = Gateway(free_port(), home, platform_url, **settings)
    try:
        yield gateway
    finally:
        gateway.process.terminate()
        gateway.process.wait(20)


class Served:
    """Platform and gateway together: what is published is known when `serve` returns."""

    def __init__(self, here: Platform, gateway: Gateway) -> None:
        self.platform = here
        self.gateway = gateway

    async def serve(self, *models: ServedModel, keys: list[KnownKey] = KEYS, **more: Any) -> None:
        await self.gateway.until_knows(self.platform.publish(*models, keys=keys, **more))

    async def used(self, requests: int) -> dict[tuple[str, str], Used]:
        """What was told of usage, when it is as many requests."""
        for _ in range(200):
            found = self.platform.used()
            if sum(one.requests for one in found.values()) >= requests:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"told of {self.platform.used()}")

    async def used_at(self, model: str, upstream: str, requests: int) -> Used:
        """Of one upstream alone: what an earlier test used may be told late."""
        for _ in range(200):
            found = self.platform.used().get((model, upstream))
            if found is not None and found.requests >= requests:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"told of {self.platform.used()}")


@pytest.fixture(scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with platform() as here:
        with gateway_process(tmp_path_factory.mktemp("gateway"), here.url) as gateway:
            await gateway.until_up()
            yield Served(here, gateway)


@pytest.fixture
async def door(running: Served) -> AsyncIterator[Served]:
    """The shared gateway; a test publishes the names that it needs and leaves none, and hears nothing of the one
    before."""
    await running.gateway.until_all_is_told()
    running.platform.wakes.clear()
    running.platform.reports.clear()
    running.platform.forwarded.clear()
    running.platform.download_left.clear()
    yield running
    assert running.gateway.process.poll() is None, running.gateway.log.read_text()
    assert "Traceback" not in running.gateway.log.read_text(), running.gateway.log.read_text()[-8_000:]
    await running.serve()
