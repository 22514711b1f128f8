"""Redis is empty, forgets, is away, comes back; a gateway dies."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from imts_shared.contracts.limits import Limits
from imts_shared.contracts.providers import UpstreamLimits
from inference_service.gateway.quota import Full, Grant, Quota, Settings
from inference_service.gateway.quota.store import HOLD_MS
from tests.gateway.quotas import MONTH, PATIENT, Books, admitted, gateways, of_key, refused, until
from tests.gateway.valkey import Valkey, valkey


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture(autouse=True)
def empty(server: Valkey) -> None:
    server.forget()


async def test_an_empty_budget_is_filled_with_what_was_spent_before(server: Valkey) -> None:
    async with gateways(server, 1, Books(k=9_000)) as quota:
        assert await admitted(quota, of_key(quota, Limits(token_budget=10_000)), 50) in {18, 19, 20}
        assert (await refused(quota, of_key(quota, Limits(money_budget=9.0)), 1, 0.01)).code == "insufficient_quota"


async def test_redis_forgets_and_two_gateways_fill_it_once(server: Valkey) -> None:
    books = Books(k=2_000)
    async with gateways(server, 2, books) as (one, two):
        limits = Limits(token_budget=10_000)
        for quota in (one, two):
            (await quota.admit(of_key(quota, limits), 500, 0)).settle(1_000, 0)
        key = f"key:k:token_budget:month:{MONTH:%Y-%m-%d}"
        await until(lambda: server.counter(key)["s"] == "4000")
        await asyncio.sleep(1.3)
        books.tokens = {"k": 3_500}
        server.forget()
        grants = await asyncio.gather(*(quota.admit(of_key(quota, limits), 500, 0) for quota in (one, two) * 2))
        for grant in grants:
            grant.settle(500, 0)
        await until(lambda: server.counter(key).get("s") == "6000")
        await asyncio.sleep(1.2)
        assert server.counter(key)["s"] == "6000"


async def test_nothing_is_granted_out_of_an_empty_budget_while_nobody_knows(server: Valkey) -> None:
    books = Books(k=10_000)
    books.away = True
    async with gateways(server, 1, books, fill_seconds=0.3) as quota:
        scopes = of_key(quota, Limits(token_budget=10_000))
        refusal = await refused(quota, scopes)
        assert (refusal.status, refusal.code) == (503, "budget_unknown")
        books.away = False
        await asyncio.sleep(0.6)
        assert (await refused(quota, scopes)).code == "insufficient_quota"


async def test_what_this_gateway_saw_stands_in_for_the_control_plane(server: Valkey) -> None:
    books = Books()
    async with gateways(server, 1, books) as quota:
        limits = Limits(token_budget=10_000)
        (await quota.admit(of_key(quota, limits), 100, 0)).settle(9_990, 0)
        await asyncio.sleep(0.3)
        books.away = True
        server.forget()
        await asyncio.sleep(0.3)
        assert (await refused(quota, of_key(quota, limits), 100)).code == "insufficient_quota"


async def test_redis_away_each_goes_on_with_its_share(server: Valkey) -> None:
    async with gateways(server, 2, patience_seconds=0.1) as (one, two):
        await until(lambda: one.gateways == two.gateways == 2)
        limits = Limits(token_budget=10_000)
        for quota in (one, two):
            (await quota.admit(of_key(quota, limits), 100, 0)).settle(1_000, 0)
        await asyncio.sleep(0.5)
        server.pause()
        try:
            begun = time.monotonic()
            spent = [await admitted(quota, of_key(quota, limits), 100) * 100 for quota in (one, two)]
            assert time.monotonic() - begun < 2
            assert all(3_500 <= each <= 4_600 for each in spent)
            assert one.problem
        finally:
            server.resume()
        key = f"key:k:token_budget:month:{MONTH:%Y-%m-%d}"
        await until(lambda: one.problem is None and two.problem is None)
        await until(lambda: float(server.counter(key)["s"]) == 2_000 + sum(spent))


async def test_a_restart_without_data_is_noticed_and_nothing_lost(server: Valkey) -> None:
    async with gateways(server, 1, Books(k=500), patience_seconds=0.2) as quota:
        limits = Limits(token_budget=100_000, requests_per_minute=1_000)
        (await quota.admit(of_key(quota, limits), 100, 0)).settle(1_000, 0)
        await asyncio.sleep(0.3)
        server.stop()
        (await quota.admit(of_key(quota, limits), 100, 0)).settle(2_000, 0)
        await asyncio.sleep(0.3)
        server.start()
        await until(lambda: quota.problem is None)
        key = f"key:k:token_budget:month:{MONTH:%Y-%m-%d}"
        await until(lambda: server.counter(key).get("s") == "3500")
        await until(lambda: server.counter("key:k:requests").get("s") == "2")


async def test_a_rate_while_redis_is_away_is_the_share_of_each_window(server: Valkey) -> None:
    async with gateways(server, 1, patience_seconds=0.1, window_seconds=1.0) as quota:
        limits = Limits(requests_per_minute=10)
        assert await admitted(quota, of_key(quota, limits), 1, 4) == 4
        await asyncio.sleep(0.3)
        server.pause()
        try:
            assert await admitted(quota, of_key(quota, limits), 1) <= 7
            await asyncio.sleep(1.5)
            assert await admitted(quota, of_key(quota, limits), 1) == 10
            await asyncio.sleep(1.5)
            assert await admitted(quota, of_key(quota, limits), 1) == 10
        finally:
            server.resume()
        await until(lambda: quota.problem is None)
        await asyncio.sleep(2.3)
        assert await admitted(quota, of_key(quota, limits), 1) == 10


async def test_the_lease_of_a_gateway_that_died_runs_out(server: Valkey) -> None:
    async with gateways(server, 1) as quota:
        dead = Quota(server.url, Books().spent, Settings(**PATIENT, beat_seconds=3_600.0))
        await dead.start()
        limits = UpstreamLimits(concurrency=1)
        assert isinstance(await dead.ask(dead.upstream("u", limits), 1, 0), Grant)
        scopes = quota.upstream("u", limits)
        assert isinstance(await quota.ask(scopes, 1, 0), Full)
        await asyncio.sleep(HOLD_MS / 1000 + 0.1)
        assert isinstance(await quota.ask(scopes, 1, 0), Grant)
        await dead.close()


async def test_a_budget_that_a_dead_gateway_held_is_not_given_to_others(server: Valkey) -> None:
    """It may have spent it, and can say so no more; if it lives after all, it does."""
    async with gateways(server, 1) as quota:
        dead = Quota(server.url, Books().spent, Settings(**PATIENT, beat_seconds=3_600.0))
        await dead.start()
        limits = Limits(token_budget=10_000)
        (await dead.admit(of_key(dead, limits), 2_000, 0)).settle(3_000, 0)
        spent = 100 * await admitted(quota, of_key(quota, limits), 100)
        await asyncio.sleep(HOLD_MS / 1000 + 0.1)
        refusal = await refused(quota, of_key(quota, limits), 100)
        assert refusal.code == "insufficient_quota"
        assert "more were held by a gateway that broke down" in refusal.message
        assert spent <= 6_000
        await dead.close()
        await asyncio.sleep(0.2)
        spent += 100 * await admitted(quota, of_key(quota, limits), 100)
        assert 6_700 <= spent <= 7_000


async def test_redis_away_what_others_hold_of_a_budget_is_theirs(server: Valkey) -> None:
    async with gateways(server, 2, patience_seconds=0.1) as (one, two):
        await until(lambda: one.gateways == two.gateways == 2)
        limits = Limits(token_budget=10_000)
        grant = await one.admit(of_key(one, limits), 4_000, 0)
        (await two.admit(of_key(two, limits), 10, 0)).settle(10, 0)
        await asyncio.sleep(1.2)
        server.pause()
        try:
            spent = [await admitted(quota, of_key(quota, limits), 100) * 100 for quota in (one, two)]
        finally:
            server.resume()
        assert 1_500 <= sum(spent) <= 2_000
        grant.settle(8_000, 0)
