"""Both clients' providers, limits, usage, routes and routing, and how they find the gateway."""

import json
import re
import runpy
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from imts_client import AsyncClient, Client, InvalidRequest, NotConfigured, NotFound, ServerFault, TooManyRequests
from imts_client import calls as all_calls
from imts_client.calls import limits as limit_calls
from imts_client.calls import providers as provider_calls
from imts_client.calls import routes as route_calls
from imts_client.where import Where, find, find_gateway
from imts_shared.contracts.access import RequestLog
from imts_shared.contracts.limits import Limits, Period
from imts_shared.contracts.providers import ProviderChange, ProviderModel, ProviderRequest, UpstreamLimits
from imts_shared.contracts.routes import Belief, Policy, RouteRequest, RouteSettings
from tests.cli.conftest import Served
from tests.cli.stand_in import KEY, Platform

USED = {"day": "2026-11-20", "model": "qwen3", "requests": 3, "failed": 1, "inputTokens": 10, "cachedTokens": 2,
        "outputTokens": 5, "estimatedTokens": 0, "totalTokens": 15, "cost": 0.25}  # fmt: skip


@pytest.fixture(autouse=True)
def no_address_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("IMTS_URL", "IMTS_GATEWAY_URL", "IMTS_API_KEY", "IMTS_PORT_OFFSET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMTS_HOME", str(tmp_path / "none"))


def provider(**more: object) -> ProviderRequest:
    model = {"name": "gpt-5-mini", "inputPrice": 0.25, "outputPrice": 2, "fallbacks": ["qwen3"]}
    given = {"name": "openai", "baseUrl": "https://api.openai.com/v1", "apiKey": "sk-very-secret", "models": [model]}
    return ProviderRequest.model_validate(given | more)


def test_every_call_names_a_contract_that_exists() -> None:
    for module in (provider_calls, limit_calls, route_calls):
        named = re.findall(r'"((?:providers|limits|usage|routes|access|answers)\.[A-Z]\w+)"', _source(module.__file__))
        assert named
        for name in named:
            assert all_calls.call._model(name).model_fields


def _source(file: str | None) -> str:
    assert file is not None
    return Path(file).read_text()


def test_providers(served: Served, platform: Platform) -> None:
    with Client(served.url, KEY) as client:
        made = client.providers.create(provider())
        assert (made.has_api_key, made.models[0].fallbacks, made.project) == (True, ["qwen3"], None)
        assert platform.gateway.sent_keys == ["sk-very-secret"], "the key itself goes out, no stars"
        assert client.providers.get("openai") == client.providers.get(made.id)
        assert [one.name for one in client.providers.list()] == ["openai"]
        changed = client.providers.change("openai", ProviderChange(limits=UpstreamLimits(concurrency=4)))
        assert (changed.limits.concurrency, changed.has_api_key) == (4, True), "what is not named stays"
        assert client.providers.change("openai", ProviderChange(models=[ProviderModel(name="m")])).models[0].name == "m"
        assert client.providers.check("openai").models == ["gpt-5-mini", "gpt-5"]
        assert not client.providers.change("openai", ProviderChange(api_key=None)).has_api_key
        told = client.providers.check("openai")
        assert (told.ok, "401" in told.message) == (False, True)
        client.providers.delete("openai")
        with pytest.raises(NotFound):
            client.providers.get("openai")


def test_a_key_shows_in_no_description_of_a_call() -> None:
    assert "sk-very-secret" not in repr(provider_calls.create(provider()))


def test_limits_usage_and_the_request_log(served: Served, platform: Platform) -> None:
    platform.gateway.usage = [dict(USED, model=f"m{n}") for n in range(120)]
    with Client(served.url, KEY) as client:
        limits = Limits(requests_per_minute=60, money_budget=12.5, budget_period=Period.week)
        answer = client.keys.set_limits("k1", limits)
        assert (answer.limits, answer.spent.period, answer.spent.tokens) == (limits, Period.week, 1_250_000)
        assert client.keys.limits("k1").limits == limits
        assert client.projects.limits("blue").limits == Limits()
        assert client.projects.set_limits("blue", Limits(token_budget=5)).limits.token_budget == 5
        assert client.projects.set_request_log("blue", RequestLog.full).request_log is RequestLog.full
        client.projects.create("green", limits=limits)
        assert platform.projects["green"]["limits"]["budgetPeriod"] == "week"
        client.keys.create("ci", limits=limits)
        assert next(iter(platform.keys.values()))["limits"]["requestsPerMinute"] == 60
        span = {"since": date(2026, 11, 1), "until": date(2026, 11, 21)}
        lines = list(client.usage.list(by=["day", "model"], key="k1", since=span["since"], until=span["until"]))
        assert (len(lines), lines[0].total_tokens, lines[0].day) == (120, 15, date(2026, 11, 20))
        assert platform.gateway.asked_usage | {"cursor": ""} == {
            "by": "day,model", "key": "k1", "from": "2026-11-01", "to": "2026-11-21", "cursor": ""
        }  # fmt: skip
        assert client.usage.total(model="m1").requests == 360
        assert platform.gateway.asked_usage == {"model": "m1", "limit": "1"}


def test_routes(served: Served, platform: Platform) -> None:
    with Client(served.url, KEY) as client:
        belief = Belief(model="qwen3", quality=0.9, language="zh")
        made = client.routes.create(
            RouteRequest(name="support", models=["qwen3"], quality_target=0.8, beliefs=[belief])
        )
        assert (made.policy, made.project, made.beliefs) == (Policy.thompson, "default", [belief])
        put = client.routes.put("support", RouteSettings(policy=Policy.linucb), project="default")
        assert (put.policy, put.quality_target) == (Policy.linucb, None)
        assert client.routes.get("support").policy is Policy.linucb
        assert [one.name for one in client.routes.list()] == ["support"]
        client.routes.delete("support")
        with pytest.raises(NotFound):
            client.routes.get("support")


def test_the_routing_alone(served: Served, platform: Platform) -> None:
    with Client(served.url, KEY, gateway_url=served.url) as client:
        decision = client.routing.analyze("Wie lang ist die Frist?")
        assert (decision.model, decision.candidates[0].propensity) == ("qwen3", 0.25)
        messages = [{"role": "user", "content": "你好"}]
        client.routing.analyze(messages=messages, route="support", tools=[{"type": "function"}])
        assert platform.gateway.analyzed == [
            {"query": "Wie lang ist die Frist?"},
            {"messages": messages, "route": "support", "tools": [{"type": "function"}]},
        ]
        assert client.routing.report(decision.decision_id, latency_seconds=0.4, cost=0.001).accepted
        assert (platform.gateway.reports[0].latency_seconds, platform.gateway.reports[0].failed) == (0.4, False)
        client.routing.feedback(decision.decision_id, rating=4, label="law")
        assert platform.gateway.feedback[0].rating == 4
        kept = client.routing.decision(decision.decision_id)
        assert [said.label for said in kept.feedback] == ["law"]
        assert [one.route for one in client.routing.decisions(route="support")] == ["support"]
        known = client.routing.stats().routes[0].models[0]
        assert (known.quality_count, known.latency_seconds, known.failures) == (1_200, 0.42, 3)
        valued = client.routing.evaluate(policies=["uniform", "fixed:qwen3"], since=date(2026, 11, 1))
        assert [one.value for one in valued.policies] == [None, 0.6]
        assert platform.gateway.evaluated[0]["from"] == "2026-11-01T00:00:00+00:00"
        assert client.routing.chat("hello").content == "You said: hello"


async def test_the_awaiting_client(served: Served, platform: Platform) -> None:
    platform.gateway.usage = [USED]
    async with AsyncClient(served.url, KEY, gateway_url=f"{served.url}/v1/") as client:
        made = await client.providers.create(provider())
        assert [one.id async for one in client.providers.list()] == [made.id]
        assert (await client.providers.change("openai", ProviderChange(enabled=False))).enabled is False
        assert (await client.providers.get("openai")).name == (await client.providers.get(made.id)).name
        assert (await client.providers.check("openai")).ok
        await client.providers.delete("openai")
        assert (await client.keys.set_limits("k", Limits(tokens_per_minute=9))).limits.tokens_per_minute == 9
        assert (await client.keys.limits("k")).limits.tokens_per_minute == 9
        assert (await client.projects.set_limits("p", Limits())).spent.requests == 1_234
        assert (await client.projects.limits("p")).limits == Limits()
        assert (await client.projects.set_request_log("p", "metadata")).request_log is RequestLog.metadata
        assert [line.cost async for line in client.usage.list()] == [0.25]
        assert (await client.usage.total()).failed == 1
        await client.routes.create(RouteRequest(name="r"))
        assert (await client.routes.put("r", RouteSettings(cost_weight=50))).cost_weight == 50
        assert [one.name async for one in client.routes.list()] == [(await client.routes.get("r")).name]
        await client.routes.delete("r")
        decision = await client.routing.analyze("x")
        assert (await client.routing.report(decision.decision_id, failed=True)).accepted
        assert (await client.routing.feedback(decision.decision_id, rating=1)).accepted
        assert (await client.routing.decision(decision.decision_id)).feedback[0].rating == 1
        assert [one.model async for one in client.routing.decisions()] == ["qwen3"]
        assert (await client.routing.stats(route="r")).routes[0].name == "r"
        assert (await client.routing.evaluate(policies=["learner"])).decisions == 2_345
        assert (await client.routing.chat("hello")).model == "qwen3"


NAMED = [(f"/api/{path}", "blue") for path in ("routing/analyze", "routing/stats", "routing/evaluate", "chat")]


def test_a_project_is_named_to_the_gateway(served: Served, platform: Platform) -> None:
    with Client(served.url, KEY, gateway_url=served.url) as client:
        decision = client.routing.analyze("x", project="blue")
        client.routing.stats(project="blue")
        client.routing.evaluate(policies=["uniform"], project="blue")
        client.routing.chat("hello", project="blue")
        assert platform.gateway.projects == NAMED
        client.routing.report(decision.decision_id)
        client.routing.feedback(decision.decision_id, rating=5)
        client.routing.analyze("x")
        assert [project for _, project in platform.gateway.projects[4:]] == [None] * 3, "a decision's id is enough"
        client.routing.stats(project="grün\r\n")
        assert platform.gateway.projects[-1][1] == "gr%C3%BCn%0D%0A", "a name that no header can hold is nobody's"


async def test_the_awaiting_client_names_a_project(served: Served, platform: Platform) -> None:
    async with AsyncClient(served.url, KEY, gateway_url=served.url) as client:
        await client.routing.analyze("x", project="blue")
        await client.routing.stats(project="blue")
        await client.routing.evaluate(policies=["uniform"], project="blue")
        await client.routing.chat("hello", project="blue")
    assert platform.gateway.projects == NAMED


MESSAGES = [{"role": "user", "content": "y"}]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda routing: routing.analyze("x", messages=MESSAGES),
        lambda routing: routing.chat("x", messages=MESSAGES),
        lambda routing: routing.feedback("d-1", rating=9),
        lambda routing: routing.report("d-1", cost=-1),
        lambda routing: routing.report("d-1", cost=float("nan")),
        lambda routing: routing.report("d-1", input_tokens=object()),
    ],
)
async def test_wrong_arguments_are_refused_as_a_wrong_request_is(
    served: Served, platform: Platform, wrong: Callable[[Any], Any]
) -> None:
    platform.gateway.decide()
    with Client(served.url, KEY, gateway_url=served.url) as client, pytest.raises(InvalidRequest) as refused:
        wrong(client.routing)
    assert refused.value.code == "invalid_request"
    async with AsyncClient(served.url, KEY, gateway_url=served.url) as awaiting:
        with pytest.raises(InvalidRequest):
            await wrong(awaiting.routing)
    assert (platform.gateway.analyzed, platform.gateway.reports, platform.gateway.feedback) == ([], [], [])


def test_a_day_is_utcs_from_its_begin_to_its_end() -> None:
    day = date(2026, 11, 1)
    asked = route_calls.decisions(since=day, until=day).params
    assert asked == {"from": "2026-11-01T00:00:00+00:00", "to": "2026-11-01T23:59:59.999999+00:00"}
    noon = datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert route_calls.decisions(since=noon).params == {"from": "2026-11-01T12:00:00+00:00"}
    naive = datetime(2026, 11, 1, 12)  # noqa: DTZ001 - what callers may well give
    assert datetime.fromisoformat(route_calls.decisions(until=naive).params["to"]) == naive.astimezone()


def test_errors_in_both_shapes(served: Served, platform: Platform) -> None:
    with Client(served.url, KEY, gateway_url=served.url) as client:
        with pytest.raises(NotFound) as unknown:
            client.routing.feedback("d-9", rating=1)
        assert (unknown.value.code, unknown.value.field) == ("unknown_decision", "decisionId")
        assert str(unknown.value) == "No decision 'd-9' is known."
        platform.gateway.refusal = 503, {"message": "No model is up.", "code": None, "type": "server_error"}
        with pytest.raises(ServerFault) as away:
            client.routing.analyze("x")
        assert (away.value.code, away.value.detail) == ("server_error", "No model is up.")
        with pytest.raises(InvalidRequest) as refused:
            client.providers.create(ProviderRequest.model_construct(name="x y", base_url="u", models=[], api_key=None))
        assert refused.value.field == "name"


def test_a_budget_that_is_used_up_is_not_asked_again(served: Served, platform: Platform) -> None:
    with Client(served.url, KEY, gateway_url=served.url) as client:
        platform.faults = [(429, {"x-should-retry": "false", "retry-after": "0"}), (429, {"retry-after": "0"})]
        with pytest.raises(TooManyRequests):
            client.routing.stats()
        assert client.routing.stats().routes, "the other 429 said nothing of the kind"


def test_where_the_gateway_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Where("http://127.0.0.1:8180", "k")
    assert find_gateway(here) == Where("http://127.0.0.1:8004", "k")
    monkeypatch.setenv("IMTS_PORT_OFFSET", "100")
    assert find_gateway(here).url == "http://127.0.0.1:8104"
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    (home / "secrets").mkdir()
    (home / "secrets" / "admin-key").write_text("local-key\n")
    monkeypatch.setenv("IMTS_HOME", str(home))
    services = [{"name": "watcher", "url": None}, {"name": "gateway", "url": "http://127.0.0.1:9004"}]
    record = {"url": here.url, "services": services}
    (home / "run" / "supervisor.json").write_text(json.dumps(record))
    assert find_gateway(here).url == "http://127.0.0.1:9004"
    assert find_gateway(Where("http://localhost:1", "k")).url == "http://127.0.0.1:8104", "another platform's record"
    (home / "run" / "supervisor.json").write_text('{"url": 3}')
    assert find_gateway(here).url == "http://127.0.0.1:8104"
    monkeypatch.setenv("IMTS_GATEWAY_URL", "http://127.0.0.1:1/v1")
    assert find_gateway(find()) == Where("http://127.0.0.1:1", "local-key")
    assert find_gateway(find(), "http://127.0.0.1:2").url == "http://127.0.0.1:2"
    with pytest.raises(NotConfigured, match="IMTS_API_KEY"):
        find_gateway(find(), "https://elsewhere.example")
    assert find_gateway(here, "https://elsewhere.example", "named").key == "named"
    with pytest.raises(NotConfigured, match="gateway"):
        find_gateway(here, "nonsense")
    monkeypatch.delenv("IMTS_GATEWAY_URL")
    with pytest.raises(NotConfigured, match="IMTS_GATEWAY_URL"):
        find_gateway(Where("https://far.example", "k"))


def test_the_example_of_routing_alone(
    served: Served, platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("IMTS_URL", served.url), ("IMTS_GATEWAY_URL", served.url), ("IMTS_API_KEY", KEY)):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["route_only.py", "Wie lang ist die Frist?"])
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "route_only.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("qwen3: cheapest of 2")
    assert platform.gateway.reports[0].output_tokens == 42
    assert platform.gateway.feedback[0].rating == 5
