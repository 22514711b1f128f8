"""What two gateways know of each other's decisions: what was said of one counts once, wherever it was said."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import Gateway, gateway_process
from tests.gateway.engines import engine
from tests.gateway.platform_side import platform, served
from tests.gateway.test_routing import ANALYZE, FEEDBACK, REPORT, _ask, route


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[Gateway, Gateway]]:
    async with platform() as here, engine("one") as one:
        with (
            gateway_process(tmp_path / "a", here.url) as first,
            gateway_process(tmp_path / "b", here.url) as second,
        ):
            await asyncio.gather(first.until_up(), second.until_up())
            version = here.publish(served("one", one.url), routes=[route("mine", models=["one"])])
            await asyncio.gather(first.until_knows(version), second.until_knows(version))
            yield first, second


async def _known(gateway: Gateway, **wanted: int) -> dict[str, Any]:
    """What the gateway has learned of the model, when it has so much of each."""
    model: dict[str, Any] = {}
    for _ in range(150):
        _, stats = await gateway.get("/api/routing/stats?route=mine")
        model = next((one for found in stats["routes"] for one in found["models"]), {})
        if all(model.get(name, 0) >= number for name, number in wanted.items()):
            return model
        await asyncio.sleep(0.02)
    raise AssertionError(f"not {wanted} but {model}")


async def test_a_rating_counts_once_wherever_the_key_gives_it(both: tuple[Gateway, Gateway]) -> None:
    first, second = both
    made = (await first.post(ANALYZE, json={"query": "Hello", "route": "mine"}))[1]
    said = {"decisionId": made["decisionId"], "rating": 5}
    assert (await second.post(FEEDBACK, json=said))[0] == 200
    await _known(first, qualityCount=1)
    status, content, _ = await first.post(FEEDBACK, json={**said, "rating": 1})
    assert (status, content["error"]["code"]) == (409, "already_rated")
    for gateway in both:
        assert (await _known(gateway, qualityCount=1))["qualityCount"] == 1


async def test_a_result_counts_once_wherever_it_is_reported(both: tuple[Gateway, Gateway]) -> None:
    first, second = both
    made = (await first.post(ANALYZE, json={"query": "Hello", "route": "mine"}))[1]
    said = {"decisionId": made["decisionId"], "cost": 0.5}
    assert (await second.post(REPORT, json=said))[0] == 200
    await _known(first, requests=1)
    assert (await first.post(REPORT, json=said))[0] == 200
    for gateway in both:
        assert (await _known(gateway, requests=1))["requests"] == 1


async def test_a_question_that_is_asked_again_elsewhere_is_noticed(both: tuple[Gateway, Gateway]) -> None:
    first, second = both
    await _ask(first, 7, "mine")
    await _known(second, requests=1)
    await _ask(second, 8, "mine")
    await _ask(second, 7, "mine")
    for gateway in both:
        found = await _known(gateway, qualityCount=1, requests=3)
        assert (found["qualityCount"], found["quality"]) == (1, 0.25)
