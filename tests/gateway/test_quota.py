"""What one or two gateways admit and refuse, on a real Valkey."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from imts_shared.contracts.limits import Limits, Period
from imts_shared.contracts.providers import UpstreamLimits
from inference_service.gateway.quota import FREE, Full, Grant, Quota, Settings, rate_headers
from tests.gateway.quotas import PATIENT, Books, admitted, gateways, of_key, refused, until
from tests.gateway.valkey import Valkey, valkey


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture(autouse=True)
def empty(server: Valkey) -> None:
    server.forget()


async def test_without_limits_nothing_is_asked(server: Valkey) -> None:
    async with gateways(server, 1) as quota:
        assert quota.scopes("k", None, "p", None) is None
        assert quota.scopes("k", Limits(), "p", Limits()) is None
        assert quota.upstream("u", UpstreamLimits()) is None
        assert quota.try_admit(None, 10, 1.0) is FREE
        FREE.settle(10, 1.0)
        assert rate_headers(None) == []


async def test_the_rate_of_requests_is_a_sliding_window(server: Valkey) -> None:
    async with gateways(server, 1, window_seconds=1.0) as quota:
        scopes = of_key(quota, Limits(requests_per_minute=5))
        begun = time.monotonic()
        assert await admitted(quota, scopes, 1) == 5
        refusal = await refused(quota, scopes)
        assert (refusal.status, refusal.code) == (429, "rate_limit_exceeded")
        assert "this key" in refusal.message
        assert "5 requests a minute" in refusal.message
        assert 0 < int(refusal.headers["retry-after-ms"]) <= 1_010
        assert refusal.headers["retry-after"] in {"1", "2"}
        await asyncio.sleep(int(refusal.headers["retry-after-ms"]) / 1000 + 0.06)
        (await quota.admit(scopes, 1, 0)).settle(1, 0)
        assert time.monotonic() - begun >= 1.0


async def test_a_failed_request_counts_as_a_request_and_not_its_tokens(server: Valkey) -> None:
    async with gateways(server, 1) as quota:
        scopes = of_key(quota, Limits(requests_per_minute=3, tokens_per_minute=100))
        for _ in range(3):
            grant = await quota.admit(scopes, 100, 0)
            grant.settle(0, 0)
            grant.settle(100, 0)
        assert "requests" in (await refused(quota, scopes)).message


async def test_a_request_larger_than_its_rate_is_told_so(server: Valkey) -> None:
    async with gateways(server, 1) as quota:
        refusal = await refused(quota, of_key(quota, Limits(tokens_per_minute=100)), 101)
        assert refusal.headers == {"x-should-retry": "false"}
        assert "max_tokens" in refusal.message


async def test_tokens_beyond_the_estimate_are_a_debt(server: Valkey) -> None:
    async with gateways(server, 1, window_seconds=0.5) as quota:
        scopes = of_key(quota, Limits(tokens_per_minute=100))
        (await quota.admit(scopes, 10, 0)).settle(350, 0)
        begun = time.monotonic()
        while isinstance(await quota.ask(scopes, 60, 0), Full):
            await asyncio.sleep(0.02)
        assert 1.4 <= time.monotonic() - begun <= 5


async def test_a_budget_that_is_used_up_says_when_it_renews(server: Valkey) -> None:
    async with gateways(server, 1) as quota:
        scopes = of_key(quota, Limits(token_budget=1000))
        (await quota.admit(scopes, 400, 0)).settle(1000, 0)
        refusal = await refused(quota, scopes)
        assert (refusal.status, refusal.code) == (429, "insufficient_quota")
        assert refusal.headers == {"x-should-retry": "false"}
        assert "This month's token budget of this key is used up: 1,000 of 1,000 tokens are spent" in refusal.message
        assert "-01 00:00 UTC" in refusal.message


async def test_what_is_promised_counts_but_is_not_called_spent(server: Valkey) -> None:
    async with gateways(server, 1) as quota:
        scopes = of_key(quota, Limits(money_budget=1.0, budget_period=Period.total))
        grant = await quota.admit(scopes, 10, 0.4)
        refusal = await refused(quota, scopes, 10, 0.4)
        assert refusal.code == "rate_limit_exceeded"
        assert "promised to requests under way" in refusal.message
        grant.settle(10, 0.1)
        grant = await quota.admit(scopes, 10, 0.4)
        grant.settle(10, 0.9)
        refusal = await refused(quota, scopes, 10, 0.4)
        assert refusal.code == "insufficient_quota"
        assert "The budget of this key is used up: 1 of 1 are spent" in refusal.message
        assert "does not renew" in refusal.message


async def test_a_budget_of_one_request_can_be_had(server: Valkey) -> None:
    async with gateways(server, 1) as quota:
        (await quota.admit(of_key(quota, Limits(token_budget=100)), 90, 0)).settle(50, 0)


async def test_key_and_project_hold_both(server: Valkey) -> None:
    async with gateways(server, 1) as quota:
        project = Limits(requests_per_minute=4)
        one = quota.scopes("one", Limits(requests_per_minute=3), "p", project)
        two = quota.scopes("two", None, "p", project)
        assert await admitted(quota, one, 1) == 3
        assert await admitted(quota, two, 1) == 1
        assert "the project `p`" in (await refused(quota, two)).message


async def test_two_gateways_spend_of_one_limit(server: Valkey) -> None:
    async with gateways(server, 2) as (one, two):
        limits = Limits(token_budget=10_000)
        total = 0
        for _ in range(300):
            for quota in (one, two):
                scopes = of_key(quota, limits)
                found = quota.try_admit(scopes, 20, 0) or await quota.ask(scopes, 20, 0)
                if isinstance(found, Grant):
                    found.settle(20, 0)
                    total += 20
        assert 9_900 <= total <= 10_000


async def test_most_requests_ask_nobody(server: Valkey) -> None:
    async with gateways(server, 1) as quota:
        scopes = of_key(quota, Limits(requests_per_minute=100_000, token_budget=10**9))
        asked = 0
        for _ in range(2_000):
            grant = quota.try_admit(scopes, 100, 0)
            if grant is None:
                asked += 1
                grant = await quota.admit(scopes, 100, 0)
            grant.settle(80, 0)
            await asyncio.sleep(0)
        assert asked <= 20


async def test_changed_limits_are_in_force_at_once(server: Valkey) -> None:
    async with gateways(server, 2) as (one, two):
        for quota in (one, two):
            (await quota.admit(of_key(quota, Limits(token_budget=100_000)), 1_000, 0)).settle(1_000, 0)
        lower = Limits(token_budget=2_500)
        await asyncio.sleep(2)
        assert await admitted(one, of_key(one, lower), 100) in {4, 5}
        assert await admitted(two, of_key(two, lower), 100) <= 1
        raised = Limits(token_budget=3_500)
        await asyncio.sleep(0.1)
        assert 8 <= await admitted(two, of_key(two, raised), 100) <= 11
        assert one.scopes("k", Limits(), "p", None) is None
        by_day = Limits(token_budget=500, budget_period=Period.day)
        assert await admitted(one, of_key(one, by_day), 100) in {4, 5}


async def test_a_new_period_begins_anew(server: Valkey) -> None:
    now = [datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()]
    quota = Quota(server.url, Books().spent, Settings(**PATIENT), wall=lambda: now[0])
    await quota.start()
    limits = Limits(token_budget=1_000)
    old = await quota.admit(of_key(quota, limits), 400, 0)
    assert (await refused(quota, of_key(quota, limits), 400)).status == 429
    now[0] += 2
    (await quota.admit(of_key(quota, limits), 400, 0)).settle(300, 0)
    old.settle(200, 0)
    await quota.close()
    assert server.counter("key:k:token_budget:month:2026-12-01")["s"] == "200"
    assert server.counter("key:k:token_budget:month:2027-01-01")["s"] == "300"


async def test_counters_that_nobody_uses_leave_and_come_back(server: Valkey) -> None:
    async with gateways(server, 1, idle_seconds=0.2) as quota:
        limits = Limits(requests_per_minute=100, token_budget=10_000)
        for number in range(200):
            (await quota.admit(of_key(quota, limits, f"k{number}"), 10, 0)).settle(10, 0)
        held = of_key(quota, limits, "k7")
        await until(lambda: len(quota) == 0)
        (await quota.admit(held, 10, 0)).settle(10, 0)
        assert quota.try_admit(of_key(quota, limits, "k7"), 10, 0) is not None
        assert len(quota) == 2
        assert "r:" not in "".join(server.counter("key:k8:requests"))


async def test_an_upstream_takes_so_many_at_a_time_over_all_gateways(server: Valkey) -> None:
    async with gateways(server, 2) as (one, two):
        limits = UpstreamLimits(concurrency=3)
        here, there = one.upstream("u", limits), two.upstream("u", limits)
        grants = [await one.ask(here, 10, 0), await two.ask(there, 10, 0), await one.ask(here, 10, 0)]
        assert all(isinstance(grant, Grant) for grant in grants)
        for quota, scopes in ((one, here), (two, there)):
            found = await quota.ask(scopes, 10, 0)
            assert isinstance(found, Full)
            assert (found.scope, found.retry_seconds) == ("provider:u", 1.0)
        grants[0].settle(10, 0)
        again = await one.ask(here, 10, 0)
        assert isinstance(again, Grant)
        for grant in (*grants[1:], again):
            grant.settle(10, 0)
        await asyncio.sleep(0.3)
        assert isinstance(await two.ask(there, 10, 0), Grant)


async def test_headers_tell_what_is_left(server: Valkey) -> None:
    async with gateways(server, 1) as quota:
        scopes = quota.scopes("k", Limits(requests_per_minute=60, tokens_per_minute=1_000), "p", Limits(
            requests_per_minute=10))  # fmt: skip
        (await quota.admit(scopes, 100, 0)).settle(40, 0)
        told = {name.decode(): value.decode() for name, value in rate_headers(scopes)}
        assert told == {
            "x-ratelimit-limit-requests": "10",
            "x-ratelimit-remaining-requests": "9",
            "x-ratelimit-reset-requests": "1m0s",
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "960",
            "x-ratelimit-reset-tokens": "1m0s",
        }
