"""The gateway owns nothing: what it knows comes in snapshots, and the last one is enough to go on with."""

import asyncio
import signal
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imts_shared.contracts.serving import Snapshot
from tests.conftest import free_port
from tests.gateway.conftest import gateway_process
from tests.gateway.engines import engine
from tests.gateway.platform_side import MEMBER, Platform, platform, served


@pytest.fixture
async def here() -> AsyncIterator[Platform]:
    async with platform() as found:
        yield found


async def test_it_goes_on_without_the_control_plane_and_starts_without_it(here: Platform, tmp_path: Path) -> None:
    async with engine() as one:
        with gateway_process(tmp_path, here.url) as gateway:
            await gateway.until_up()
            await gateway.until_knows(here.publish(served("tiny", one.url)))
            here.away = True
            here.publish()
            await asyncio.sleep(0.5)
            assert (await gateway.chat("tiny"))[0] == 200
            assert stat.S_IMODE(gateway.kept.stat().st_mode) == 0o600
            assert MEMBER not in gateway.kept.read_text()
            assert (await gateway.get("/info"))[1]["controlPlane"]["problem"]
        with gateway_process(tmp_path, here.url) as gateway:
            await gateway.until_up()
            assert (await gateway.get("/readyz"))[0] == 200
            assert (await gateway.chat("tiny"))[0] == 200
            here.away = False
            await gateway.until_knows(here.version)
            assert (await gateway.chat("tiny"))[0] == 404
        assert Snapshot.model_validate_json(gateway.kept.read_bytes()).models == []
        assert gateway.log.read_text().count("control plane not heard") == 2, "once by each of the two processes"


async def test_it_is_not_ready_before_it_knows_anything(here: Platform, tmp_path: Path) -> None:
    here.away = True
    with gateway_process(tmp_path, here.url) as gateway:
        await gateway.until_up()
        await asyncio.sleep(0.2)
        status, content = await gateway.get("/readyz")
        assert status == 503
        assert "503" in content["reason"]
        status, content = await gateway.chat("tiny")
        assert (status, content["error"]["code"]) == (503, "starting")
        assert (await gateway.get("/healthz"))[0] == 200
        here.away = False
        await gateway.until_knows(here.version)
        assert (await gateway.get("/readyz"))[0] == 200


@pytest.mark.parametrize("kept", [b"", b"{", b'{"version": "v9"}', b"\xff\xff"])
async def test_a_kept_snapshot_that_is_damaged_is_passed_over(here: Platform, tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "gateway-snapshot.json").write_bytes(kept)
    with gateway_process(tmp_path, here.url) as gateway:
        await gateway.until_up()
        await gateway.until_knows(here.version)
    assert Snapshot.model_validate_json(gateway.kept.read_bytes()).version == here.version


async def test_news_are_known_at_once(here: Platform, tmp_path: Path) -> None:
    with gateway_process(tmp_path, here.url) as gateway:
        await gateway.until_up()
        await gateway.until_knows(here.version)
        slowest = 0.0
        for number in range(5):
            begun = time.monotonic()
            await gateway.until_knows(here.publish(served(f"model-{number}")))
            slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 1


async def test_running_answers_get_their_time_when_the_gateway_is_stopped(here: Platform, tmp_path: Path) -> None:
    async with engine() as one:
        with gateway_process(tmp_path, here.url) as gateway:
            await gateway.until_up()
            await gateway.until_knows(here.publish(served("tiny", one.url)))
            one.pause = 0.5
            asking = asyncio.create_task(gateway.chat("tiny"))
            while not one.running:
                await asyncio.sleep(0.01)
            gateway.process.terminate()
            assert (await asking)[0] == 200
    assert gateway.process.returncode == -signal.SIGTERM


async def test_a_port_in_use_ends_it_with_a_word(here: Platform, tmp_path: Path) -> None:
    async with engine() as one:
        with gateway_process(tmp_path, here.url, IMTS_INFERENCE_PORT=str(one.port)) as gateway:
            assert await asyncio.to_thread(gateway.process.wait, 10) != 0
    assert "address already in use" in gateway.log.read_text()


async def test_wrong_settings_end_it_with_a_word(tmp_path: Path) -> None:
    with gateway_process(tmp_path, f"http://127.0.0.1:{free_port()}", IMTS_GATEWAY_TRIES="none") as gateway:
        assert await asyncio.to_thread(gateway.process.wait, 10) == 2
    assert "gateway_tries" in gateway.log.read_text()
