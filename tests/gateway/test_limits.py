"""Rates, budgets and providers' limits, at the door and over two gateways, with a real Valkey between them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from imts_shared.contracts.access import Role
from imts_shared.contracts.limits import Limits, Period
from imts_shared.contracts.providers import ProviderModel, UpstreamLimits
from imts_shared.contracts.routes import Belief
from imts_shared.contracts.serving import KnownKey, KnownProject, KnownRoute
from tests.gateway.conftest import Served, gateway_process
from tests.gateway.engines import engine
from tests.gateway.platform_side import ADMIN, KEYS, known, platform, provider, served
from tests.gateway.valkey import valkey

CHAT = "/v1/chat/completions"
LIMITED = "sk-limited-0123456789abcdef"


def limited(**limits: Any) -> list[KnownKey]:
    return _alone(LIMITED, **limits)


def _alone(secret: str, **limits: Any) -> list[KnownKey]:
    key = known(secret, Role.inference, "default").model_copy(update={"limits": Limits(**limits)})
    return [*KEYS, key]


@pytest.fixture(scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Served]]:
    with valkey(tmp_path_factory.mktemp("valkey")) as redis:
        url = redis.url
        async with platform() as here:
            homes = [tmp_path_factory.mktemp("gateway") for _ in range(2)]
            with (
                gateway_process(homes[0], here.url, IMTS_REDIS_URL=url) as one,
                gateway_process(homes[1], here.url, IMTS_REDIS_URL=url) as other,
            ):
                await asyncio.gather(one.until_up(), other.until_up())
                yield [Served(here, one), Served(here, other)]


async def _serve(two: list[Served], *models: Any, **more: Any) -> None:
    version = two[0].platform.publish(*models, **more)
    await asyncio.gather(*(one.gateway.until_knows(version) for one in two))


async def test_a_keys_requests_are_counted_over_all_gateways(two: list[Served]) -> None:
    async with engine("one") as one:
        await _serve(two, served("tiny", one.url), keys=limited(requests_per_minute=20))
        found = [await two[number % 2].gateway.post(CHAT, LIMITED, json={"model": "tiny"}) for number in range(30)]
        assert (await two[0].gateway.chat("tiny", key=ADMIN))[0] == 200, "another key has its own"
    assert Counter(status for status, _, _ in found) == {200: 20, 429: 10}
    _, content, headers = found[-1]
    assert content["error"]["code"] == "rate_limit_exceeded"
    assert "20 requests a minute" in content["error"]["message"]
    assert 1 <= int(headers["retry-after"]) <= 61
    assert found[0][2]["x-ratelimit-limit-requests"] == "20"
    assert len(one.bodies) == 21


async def test_a_budget_of_money_ends_with_the_period(two: list[Served]) -> None:
    async with engine("cloud") as cloud:
        model = ProviderModel(name="dear", input_price=0, output_price=2_500)
        limits = Limits(money_budget=0.5, budget_period=Period.day)
        await _serve(
            two,
            providers=[provider("cloud", cloud.url, model)],
            projects=[KnownProject(name="default", limits=limits)],
        )
        statuses: Counter[int] = Counter()
        content: Any = None
        for number in range(80):
            status, content, _ = await two[number % 2].gateway.post(CHAT, json={"model": "dear", "max_tokens": 4})
            statuses[status] += 1
    assert 44 <= statuses[200] <= 50, "at most 50 answers of 0.01 each; what one gateway holds the other lacks"
    assert statuses[200] + statuses[429] == 80
    assert content["error"]["code"] in {"insufficient_quota", "rate_limit_exceeded"}
    assert "today's budget of the project `default`" in content["error"]["message"].lower().replace("the rest of ", "")


async def test_a_provider_is_sent_no_more_than_it_may_be(two: list[Served]) -> None:
    async with engine("small") as small, engine("large") as large:
        small.pause = large.pause = 0.3
        limits = UpstreamLimits(concurrency=3)
        await _serve(
            two,
            providers=[
                provider("small", small.url, ProviderModel(name="tiny", weight=10), limits=limits),
                provider("large", large.url, ProviderModel(name="tiny", weight=1)),
            ],
        )
        asked = [two[number % 2].gateway.chat("tiny") for number in range(40)]
        assert {status for status, _ in await asyncio.gather(*asked)} == {200}
        assert small.most_running <= 3
        assert len(large.bodies) >= 20
        await _serve(two, providers=[provider("small", small.url, "tiny", limits=limits)])
        asked = [two[number % 2].gateway.chat("tiny") for number in range(20)]
        answers = await asyncio.gather(*asked)
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) == {200, 429}
    assert {content["error"]["code"] for status, content in answers if status == 429} == {"upstream_rate_limited"}
    assert small.most_running <= 3


async def test_a_request_that_a_providers_tokens_do_not_suffice_for_closes_it_for_nobody(two: list[Served]) -> None:
    async with engine("one") as one:
        limits = UpstreamLimits(tokens_per_minute=1_000)
        await _serve(two, providers=[provider("metered", one.url, "tiny", limits=limits)])
        for status, never, tokens in ((200, False, 900), (429, True, 5_000), (429, False, 970), (200, False, 4)):
            asked = {"model": "tiny", "max_tokens": tokens, "messages": [{"role": "user", "content": "Hello"}]}
            found, content, headers = await two[0].gateway.post(CHAT, json=asked)
            assert found == status, (tokens, content)
            if status == 429:
                assert content["error"]["code"] == "upstream_rate_limited"
                assert "1,000 a minute" in content["error"]["message"]
                assert ("max_tokens" in content["error"]["message"], "retry-after" in headers) == (never, not never)
        several = {"model": "tiny", "prompt": "Hello", "max_tokens": 400, "n": 3}
        assert (await two[0].gateway.post("/v1/completions", json=several))[0] == 429, "three answers of 400"
        embedded = await two[0].gateway.post("/v1/embeddings", json={"model": "tiny", "input": "Hello " * 400})
        assert embedded[0] == 200, "what makes no tokens is held for none"


async def test_a_routes_budget_that_others_have_spent_leaves_what_is_free(tmp_path: Path) -> None:
    """A gateway that heard nothing of what was spent (it is new, and the lessons are too many) is told by Redis."""
    model = ProviderModel(name="dear", input_price=100_000, output_price=100_000)
    believed = Belief(model="dear", quality=0.99, strength=100)
    mixed = KnownRoute(name="mixed", project="default", budget=20, models=["dear", "own"], beliefs=[believed])
    asked = {"model": "mixed", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
    with valkey(tmp_path) as redis:
        async with platform() as here, engine("dear") as dear, engine("own") as own:
            providers = [provider("cloud", dear.url, model)]
            with gateway_process(tmp_path / "one", here.url, IMTS_REDIS_URL=redis.url) as first:
                await first.until_up()
                await Served(here, first).serve(
                    served("own", own.url), providers=providers, routes=[mixed.model_copy(update={"models": ["dear"]})]
                )
                found = [await first.post(CHAT, json=asked) for _ in range(60)]
                assert {found[0][0], found[-1][0]} == {200, 429}
                await first.until_all_is_told()
            here.lessons.clear()
            spent = len(dear.bodies)
            with gateway_process(tmp_path / "other", here.url, IMTS_REDIS_URL=redis.url) as other:
                await other.until_up()
                await Served(here, other).serve(served("own", own.url), providers=providers, routes=[mixed])
                answers = [await other.post(CHAT, json=asked) for _ in range(20)]
                assert {status for status, _, _ in answers} == {200}, answers[0]
                assert {headers["x-imts-model"] for _, _, headers in answers} == {"own"}
                assert len(dear.bodies) == spent
                alone = mixed.model_copy(update={"models": ["dear"]})
                await Served(here, other).serve(served("own", own.url), providers=providers, routes=[alone])
                status, content, _ = await other.post(CHAT, json=asked)
    assert (status, content["error"]["code"]) == (429, "insufficient_quota")
    assert "budget of the route `default/mixed` has too little left for this request" in content["error"]["message"]


async def test_asking_which_model_counts_as_a_request_and_takes_no_tokens(two: list[Served]) -> None:
    asked = {"query": "Hello", "route": "auto"}
    async with engine("one") as one:
        await _serve(two, served("tiny", one.url), keys=_alone("sk-analyst", requests_per_minute=6, token_budget=1))
        found = [await each.gateway.post("/api/routing/analyze", "sk-analyst", json=asked) for each in two * 5]
    assert Counter(status for status, _, _ in found) == {200: 6, 429: 4}
    assert found[-1][1]["error"]["code"] == "rate_limit_exceeded"


async def test_a_small_rate_of_tokens_serves_small_requests(two: list[Served]) -> None:
    """What makes no tokens is held for none, and an answer without a bound for no more than there can be."""
    async with engine("one") as one:
        for door in two:
            await door.serve(served("tiny", one.url), keys=limited(tokens_per_minute=400))
        found = [await two[0].gateway.post(f"/v1/{path}", LIMITED, json={"model": "tiny", "input": "Hello"})
                 for path in ("embeddings", "tokenize", "embeddings")]  # fmt: skip
        assert [status for status, _, _ in found] == [200] * 3, found
        status, content = await two[0].gateway.chat("tiny", key=LIMITED)
    assert status == 200, content


async def test_it_goes_on_without_redis(tmp_path: Path) -> None:
    async with platform() as here, engine("one") as one:
        with gateway_process(tmp_path, here.url) as gateway:
            await gateway.until_up()
            door = Served(here, gateway)
            await door.serve(served("tiny", one.url), keys=limited(requests_per_minute=5))
            statuses = Counter([(await gateway.chat("tiny", key=LIMITED))[0] for _ in range(8)])
            assert statuses == {200: 5, 429: 3}
            assert gateway.log.read_text().count("redis not heard") == 1
