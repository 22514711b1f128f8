"""What is known of money before anything was asked: by prices, and by what a budget has left."""

from collections import Counter
from typing import Any

import pytest

from imts_shared.contracts.providers import ProviderModel
from imts_shared.contracts.routes import Belief, Policy
from tests.gateway.conftest import Served
from tests.gateway.engines import engine
from tests.gateway.platform_side import provider, served
from tests.gateway.test_routing import ANALYZE, CHAT, REPORT, _ask, route


@pytest.mark.parametrize("policy", list(Policy))
async def test_the_cheapest_by_its_price_is_asked_from_the_first_request_on(door: Served, policy: Policy) -> None:
    """Of models that all reach the quality that is wanted, whichever is listed first."""
    priced = [
        ProviderModel(name=f"{policy}-dear", input_price=10, output_price=20),
        ProviderModel(name=f"{policy}-fair", input_price=1, output_price=2),
        ProviderModel(name=f"{policy}-free"),
    ]
    names = [one.name for one in priced]
    sure = [Belief(model=name, quality=0.8, strength=500) for name in names]
    aiming = route(f"aim-{policy}", models=names, policy=policy, quality_target=0.7, beliefs=sure)
    async with engine("one") as one:
        await door.serve(providers=[provider("cloud", one.url, *priced)], routes=[aiming])
        _, made, _ = await door.gateway.post(ANALYZE, json={"query": "Hello", "route": aiming.name})
        costs = {each["model"]: each["cost"] for each in made["candidates"]}
        assert costs[names[0]] == pytest.approx(10 * costs[names[1]])
        assert costs[names[2]] == 0
        chosen = Counter([(await _ask(door.gateway, number, aiming.name))["x-imts-model"] for number in range(40)])
    assert chosen[names[2]] > 20, chosen
    assert chosen[names[0]] <= 6, chosen


async def test_a_route_whose_money_is_gone_says_so_to_those_who_ask_models_themselves(door: Served) -> None:
    dear = ProviderModel(name="dear-one", input_price=1, output_price=1)
    paid: dict[str, Any] = {"budget": 1, "beliefs": [Belief(model="dear-one", quality=1, strength=100)]}
    async with engine("own") as own, engine("cloud") as cloud:
        both = [route("both", models=["dear-one", "own-one"], **paid), route("dear", models=["dear-one"], **paid)]
        await door.serve(served("own-one", own.url), providers=[provider("cloud", cloud.url, dear)], routes=both)
        for name in ("both", "dear"):
            status, made, _ = await door.gateway.post(ANALYZE, json={"query": "Hello", "route": name})
            assert (status, made["model"]) == (200, "dear-one"), made
            spent = {"decisionId": made["decisionId"], "cost": 5}
            assert (await door.gateway.post(REPORT, json=spent))[0] == 200
        found = [(await door.gateway.post(ANALYZE, json={"query": "Hello", "route": "both"}))[1] for _ in range(10)]
        assert {made["model"] for made in found} == {"own-one"}
        status, content, _ = await door.gateway.post(ANALYZE, json={"query": "Hello", "route": "dear"})
        assert (status, content["error"]["code"]) == (429, "insufficient_quota")
        status, content, _ = await door.gateway.post(CHAT, json={"model": "dear", "messages": []})
        assert (status, content["error"]["code"]) == (429, "insufficient_quota")


async def test_asking_which_model_holds_no_money(door: Served) -> None:
    dear = ProviderModel(name="priced", input_price=1, output_price=100)
    async with engine("cloud") as cloud:
        await door.serve(
            providers=[provider("cloud", cloud.url, dear)], routes=[route("held", models=["priced"], budget=0.5)]
        )
        for _ in range(20):
            asked = await door.gateway.post(ANALYZE, json={"query": "Hello", "route": "held"})
            assert asked[0] == 200, asked[1]
