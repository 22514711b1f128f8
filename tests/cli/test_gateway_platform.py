"""imts providers, limits and route, and the client, against the real control plane on a real database."""

import asyncio
import json

import pytest

from imts_client import AsyncClient, Client, Conflict, Forbidden
from imts_shared.contracts.access import Role
from imts_shared.contracts.limits import Limits, Period
from imts_shared.contracts.providers import ProviderChange, ProviderModel, ProviderRequest, UpstreamLimits
from imts_shared.contracts.routes import Belief, RouteRequest, RouteSettings
from tests.cli.test_real_platform import ran
from tests.control_plane.conftest import NewKey, config, database, new_key, url

__all__ = ["config", "database", "new_key", "url"]

AWAY = "http://127.0.0.1:1/v1"


async def test_the_commands(url: str, new_key: NewKey) -> None:
    key = await new_key()
    models = ("--model", "mini=gpt-5-mini,in=0.25,out=2,cached=0.025,fallback=big", "--model", "big,weight=2")
    added = await ran(url, key, "providers", "add", "near", "--url", AWAY, "--allow-internal", *models)
    assert added[:2] == (0, "Provider near is added with mini, big.\n"), added
    refused = await ran(url, key, "providers", "add", "far", "--url", AWAY, "--model", "m")
    assert (refused[0], "private network" in refused[2]) == (4, True), refused
    assert "with --allow-internal." in refused[2] and "allowInternal" not in refused[2], refused
    moved = await ran(url, key, "providers", "change", "near", "--url", AWAY, "--no-allow-internal")
    assert (moved[0], "with --allow-internal." in moved[2]) == (4, True), moved
    members = await new_key(Role.member)
    denied = await ran(url, members, "providers", "add", "far", "--url", AWAY, "--model", "m", "--allow-internal")
    assert (denied[0], "field: --allow-internal" in denied[2]) == (4, True), denied
    shown = (await ran(url, key, "providers", "show", "near"))[1]
    assert "mini   gpt-5-mini     0.25   0.025       2       1  big" in shown
    checked = await ran(url, key, "providers", "check", "near")
    assert (checked[0], checked[1][:8]) == (1, "failed: "), checked
    changed = await ran(url, key, "providers", "change", "near", "--concurrency", "3", "--disabled")
    assert changed[:2] == (0, "Provider near is changed: disabled, mini, big.\n")
    again = await ran(url, key, "providers", "change", "near", "--requests-per-minute", "9", "--json")
    assert json.loads(again[1])["limits"] == {"requestsPerMinute": 9, "tokensPerMinute": None, "concurrency": 3}
    assert "near" in (await ran(url, key, "providers", "list", "--project", "default"))[1]
    made = await ran(url, key, "route", "set", "support", "--model", "mini", "--belief", "mini,quality=0.8,language=zh")
    assert made[:2] == (0, "Route support is made: thompson among mini.\n"), made
    kept = await ran(url, key, "route", "set", "support", "--judge", "big", "--quality-target", "0.7", "--json")
    told = json.loads(kept[1])
    assert (told["models"], told["judge"]["model"], told["beliefs"][0]["language"]) == (["mini"], "big", "zh")
    assert "support  default  mini" in (await ran(url, key, "route", "list"))[1]
    shown = await ran(url, key, "route", "show", "support")
    assert (shown[0], "judge           big, at most 1000 ms" in shown[1]) == (0, True), shown
    assert (await ran(url, key, "route", "remove", "support"))[0] == 0
    limited = await ran(url, key, "limits", "set", "--project", "default", "--token-budget", "2M")
    assert (limited[0], "2,000,000 this month: 0% spent" in limited[1]) == (0, True), limited
    kept = await ran(url, key, "limits", "set", "--project", "default", "--money-budget", "1.5", "--json")
    assert json.loads(kept[1])["limits"]["tokenBudget"] == 2_000_000
    assert (await ran(url, key, "limits", "show"))[0] == 0
    logged = await ran(url, key, "projects", "request-log", "default", "metadata")
    assert logged[:2] == (0, "Project default: request log metadata.\n")
    assert (await ran(url, key, "providers", "remove", "near"))[0] == 0


async def test_the_awaiting_client(url: str, new_key: NewKey) -> None:
    async with AsyncClient(url, await new_key()) as client:
        asked = ProviderRequest(name="p", base_url=AWAY, models=[ProviderModel(name="m")], allow_internal=True)
        made = await client.providers.create(asked)
        changed = await client.providers.change("p", ProviderChange(limits=UpstreamLimits(concurrency=2)))
        assert (changed.id, changed.limits.concurrency, changed.has_api_key) == (made.id, 2, False)
        assert [one.name async for one in client.providers.list(project="default")] == ["p"]
        assert not (await client.providers.check("p", project="default")).ok
        with pytest.raises(Conflict):
            await client.providers.create(asked)
        belief = Belief(model="m", quality=0.5)
        await client.routes.create(RouteRequest(name="r", beliefs=[belief]))
        assert (await client.routes.put("r", RouteSettings(cost_weight=99))).beliefs == []
        assert (await client.routes.get("r", project="default")).cost_weight == 99
        await client.routes.delete("r")
        await client.providers.delete(made.id)
        limits = Limits(requests_per_minute=5, budget_period=Period.week, money_budget=0.5)
        assert (await client.projects.set_limits("default", limits)).limits == limits
        fresh = await client.keys.create("ci", limits=limits)
        assert (await client.keys.limits(fresh.id)).limits == limits
        assert (await client.projects.create("green", limits=limits)).name == "green"


async def test_what_a_member_may(url: str, new_key: NewKey) -> None:
    key = await new_key(Role.member)

    def speak() -> None:
        with Client(url, key) as client:
            asked = ProviderRequest(name="p", base_url=AWAY, models=[ProviderModel(name="m")])
            with pytest.raises(Forbidden) as refused:
                client.providers.create(asked)
            assert refused.value.code == "internal_address"
            with pytest.raises(Forbidden):
                client.projects.set_limits("default", Limits())
            assert client.projects.limits("default").spent.requests == 0
            assert client.keys.limits(client.who_am_i().key_id).limits == Limits()

    await asyncio.to_thread(speak)
