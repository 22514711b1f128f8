"""What /metrics tells, and to whom."""

from pathlib import Path

import aiohttp

from tests.gateway.conftest import Served, gateway_process
from tests.gateway.engines import engine
from tests.gateway.platform_side import MEMBER, platform, served

KEY = "scrape-0123456789abcdef"


async def _metrics(url: str, key: str | None = None) -> tuple[int, str]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(url, headers=headers) as session, session.get("/metrics") as answer:
        return answer.status, await answer.text()


async def test_names_that_do_not_exist_make_no_series(door: Served) -> None:
    async with engine("one") as one:
        await door.serve(served("there-is-one", one.url))
        assert (await door.gateway.chat("there-is-one"))[0] == 200
        for path, body in (
            ("/v1/chat/completions", {"model": "made-up-1", "messages": []}),
            ("/v1/embeddings", {"model": "made-up-2", "input": "x"}),
            ("/api/chat", {"model": "made-up-3", "message": "x"}),
            ("/api/routing/analyze", {"route": "made-up-4", "query": "x"}),
        ):
            assert (await door.gateway.post(path, json=body))[0] == 404
        fallback = {"x-imts-fallbacks": "made-up-5"}
        asked = {"model": "there-is-one", "messages": []}
        assert (await door.gateway.post("/v1/chat/completions", json=asked, headers=fallback))[0] == 200
    status, told = await _metrics(door.gateway.url)
    assert status == 200
    assert 'imts_gateway_requests_total{model="there-is-one",status="200"}' in told
    assert "made-up" not in told


async def test_with_a_key_of_its_own_it_is_told_to_its_bearer_alone(tmp_path: Path) -> None:
    async with platform() as here:
        with gateway_process(tmp_path, here.url, IMTS_GATEWAY_METRICS_KEY=KEY) as gateway:
            await gateway.until_up()
            for other in (None, "x", MEMBER, KEY + "x"):
                status, told = await _metrics(gateway.url, other)
                assert (status, "invalid_metrics_key" in told, "imts_gateway" in told) == (401, True, False)
            status, told = await _metrics(gateway.url, KEY)
            assert (status, "imts_gateway_requests_total" in told) == (200, True)
            assert (await gateway.get("/healthz", None))[0] == 200
