"""A route chooses a model, says why, and learns: over real sockets, with one and with two gateways."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from imts_shared.contracts.limits import Limits, Period
from imts_shared.contracts.providers import ProviderModel
from imts_shared.contracts.routes import Belief, Decision, Judge
from imts_shared.contracts.serving import KnownProject, KnownRoute
from tests.conftest import free_port
from tests.gateway.conftest import Gateway, Served, gateway_process
from tests.gateway.engines import engine, refusing
from tests.gateway.platform_side import KEYS, MEMBER, OTHER, platform, provider, served, serving

CHAT = "/v1/chat/completions"
FEEDBACK = "/api/routing/feedback"
ANALYZE = "/api/routing/analyze"
REPORT = "/api/routing/report"


def route(name: str = "auto", **more: Any) -> KnownRoute:
    return KnownRoute(name=name, project="default", **more)


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Question {number}: what does the law say about a lost contract?"}]


async def _decisions(door: Served, least: int) -> list[Decision]:
    for _ in range(150):
        found = [one for report in door.platform.reports for one in report.decisions]
        if len(found) >= least:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"{len(found)} decisions were told")


async def _ask(gateway: Gateway, number: int, model: str = "auto", **more: Any) -> Any:
    status, content, headers = await gateway.post(CHAT, json={"model": model, "messages": question(number), **more})
    assert status == 200, content
    return headers


async def test_auto_chooses_among_what_the_caller_may_ask_and_tells_all(door: Served) -> None:
    async with engine("one") as one, engine("other") as other:
        await door.serve(
            served("one", one.url), served("other", other.url), served("foreign", one.url, project="other")
        )
        chosen = Counter([(await _ask(door.gateway, number))["x-imts-model"] for number in range(20)])
        decisions = await _decisions(door, 20)
    assert set(chosen) == {"one", "other"}, "a model that nobody knows is tried"
    assert b'"model":"one"' in one.bodies[0]
    for decision in decisions:
        assert sum(candidate.propensity for candidate in decision.candidates) == pytest.approx(1)
        assert decision.model in {candidate.model for candidate in decision.candidates}
        assert decision.features["language"] == "en"
        assert decision.reason
        assert decision.result is not None
        assert (decision.result.failed, decision.result.output_tokens) == (False, 4)


async def test_beliefs_decide_on_day_one(door: Served) -> None:
    async with engine("lawyer") as lawyer, engine("poet") as poet:
        beliefs = [
            Belief(model="lawyer", quality=0.4, strength=50),
            Belief(model="poet", quality=0.9, strength=50),
            Belief(model="lawyer", domain="law", quality=0.95, strength=200),
            Belief(model="poet", domain="law", quality=0.1, strength=200),
        ]
        await door.serve(served("lawyer", lawyer.url), served("poet", poet.url), routes=[route(beliefs=beliefs)])
        asked = {"query": "Is a contract valid under German law if the court never saw the signature?"}
        legal = [(await door.gateway.post(ANALYZE, json=asked))[1] for _ in range(10)]
        asked = {"query": "Write a short poem about the sea and the wind at night."}
        poems = [(await door.gateway.post(ANALYZE, json=asked))[1] for _ in range(10)]
    assert legal[0]["features"]["domain"] == "law"
    assert Counter(one["model"] for one in legal)["lawyer"] >= 8
    assert Counter(one["model"] for one in poems)["poet"] >= 8
    assert {"decisionId", "model", "reason", "features", "candidates"} <= legal[0].keys()
    assert {"model", "score", "propensity"} <= legal[0]["candidates"][0].keys()
    assert "rows" not in legal[0]["features"]


async def test_feedback_moves_the_choice_here_at_once_and_at_other_gateways_soon(tmp_path: Path) -> None:
    async with platform() as here, engine("good") as good, engine("bad") as bad:
        with (
            gateway_process(tmp_path / "a", here.url) as first,
            gateway_process(tmp_path / "b", here.url) as second,
        ):
            await asyncio.gather(first.until_up(), second.until_up())
            version = here.publish(served("good", good.url), served("bad", bad.url))
            await asyncio.gather(first.until_knows(version), second.until_knows(version))
            for number in range(60):
                headers = await _ask(first, number)
                rating = 5 if headers["x-imts-model"] == "good" else 1
                said = {"decisionId": headers["x-imts-decision-id"], "rating": rating, "comment": "so it is"}
                status, content, _ = await first.post(FEEDBACK, json=said)
                assert (status, content["accepted"]) == (200, True), content
            told_at = time.monotonic()
            at_first = Counter([(await _ask(first, 1000 + number))["x-imts-model"] for number in range(20)])
            while time.monotonic() < told_at + 2:
                asked = [(await second.post(ANALYZE, json={"messages": question(1)}))[1] for _ in range(10)]
                if Counter(one["model"] for one in asked)["good"] >= 8:
                    break
            else:
                raise AssertionError("the other gateway has not learned within 2 seconds")
            # a decision of the first gateway is judged at the second, before anybody was told of it
            headers = await _ask(first, 5000)
            rating = 4 if headers["x-imts-model"] == "good" else 1
            said = {"decisionId": headers["x-imts-decision-id"], "rating": rating}
            assert (await second.post(FEEDBACK, json=said))[0] == 200
            _, stats = await first.get("/api/routing/stats?route=auto")
        with gateway_process(tmp_path / "c", here.url) as third:
            await third.until_up()
            await third.until_knows(version)
            await asyncio.sleep(0.5)
            asked = [(await third.post(ANALYZE, json={"messages": question(2)}))[1] for _ in range(10)]
            assert Counter(one["model"] for one in asked)["good"] >= 8, "what was learned outlives all gateways"
    assert at_first["good"] >= 17
    (found,) = stats["routes"]
    by_model = {one["model"]: one for one in found["models"]}
    assert by_model["good"]["quality"] > 0.9
    assert "bad" not in by_model or (by_model["bad"]["quality"] or 0) < 0.1, "it may have been tried and not judged"


async def test_a_model_that_fails_is_answered_for_by_the_next_and_left(door: Served) -> None:
    async with engine("good") as good:
        await door.serve(served("good", good.url), providers=[provider("gone", refusing(), "gone")])
        answered = [(await _ask(door.gateway, number))["x-imts-model"] for number in range(40)]
        decisions = await _decisions(door, 40)
    assert set(answered) == {"good"}
    lost = [one for one in decisions if one.model == "gone"]
    assert all(one.result and one.result.failed for one in lost)
    assert 1 <= len(lost) <= 15
    assert sum(one.model == "gone" for one in decisions[-15:]) <= 3


async def test_a_model_that_cannot_take_the_request_is_passed_over_and_a_request_that_none_takes_teaches_nothing(
    door: Served,
) -> None:
    async def no_chat(_request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "I only embed."}}, status=400)

    port = free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", no_chat)
    async with serving(app, port), engine("chat") as chat:
        embed = provider("embed", f"http://127.0.0.1:{port}", "embed")
        await door.serve(served("chat", chat.url), providers=[embed])
        answered = [(await _ask(door.gateway, 300 + number))["x-imts-model"] for number in range(30)]
        decisions = await _decisions(door, 30)
        await door.serve(providers=[embed], routes=[route("narrow", models=["embed"])])
        status, content, _ = await door.gateway.post(CHAT, json={"model": "narrow", "messages": question(400)})
        assert (status, content["error"]["message"]) == (400, "I only embed.")
        _, stats = await door.gateway.get("/api/routing/stats?route=narrow")
    assert set(answered) == {"chat"}
    assert sum(one.model == "embed" for one in decisions[-10:]) <= 2
    assert not any(one["requests"] for one in stats["routes"][0]["models"])


async def test_a_proxy_of_ones_own_asks_and_reports(door: Served) -> None:
    async with engine("one") as one:
        await door.serve(served("one", one.url), routes=[route("mine", models=["one"])])
        status, made, _ = await door.gateway.post(ANALYZE, json={"query": "Hello", "route": "mine"})
        assert (status, made["model"], made["route"]) == (200, "one", "mine")
        said = {"decisionId": made["decisionId"], "latencySeconds": 1.5, "cost": 0.002, "outputTokens": 30}
        assert (await door.gateway.post("/api/routing/report", json=said))[0] == 200
        said = {"decisionId": made["decisionId"], "rating": 2, "label": "finance"}
        assert (await door.gateway.post(FEEDBACK, json=said))[0] == 200
        feedback = []
        for _ in range(100):
            feedback = [one for report in door.platform.reports for one in report.feedback]
            if len(feedback) == 2:
                break
            await asyncio.sleep(0.02)
        _, stats = await door.gateway.get("/api/routing/stats?route=mine")
    assert one.bodies == []
    assert [one.signal for one in feedback] == ["reported", "rating"]
    assert feedback[0].result is not None
    assert (feedback[0].result.cost, feedback[1].quality, feedback[1].label) == (0.002, 0.25, "finance")
    (model,) = stats["routes"][0]["models"]
    assert (model["requests"], model["quality"], model["latency"], model["cost"]) == (1, 0.25, 1.5, 0.002)


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        (ANALYZE, {"query": "x", "route": "nowhere"}, 404, "unknown_route", "route"),
        (ANALYZE, {"query": "x", "messages": []}, 400, "invalid_request", "messages"),
        (ANALYZE, {}, 400, "invalid_request", None),
        (ANALYZE, {"query": 3}, 400, "invalid_request", "query"),
        (FEEDBACK, {"decisionId": "dec-none", "rating": 3}, 404, "unknown_decision", "decisionId"),
        (FEEDBACK, {"decisionId": "dec-none", "rating": 6}, 400, "invalid_request", "rating"),
        (FEEDBACK, {"decisionId": "dec-none", "comment": "a\0b"}, 400, "invalid_request", "comment"),
        (FEEDBACK, {"decisionId": "dec-none"}, 400, "invalid_request", "rating"),
        (FEEDBACK, {"rating": 3}, 400, "invalid_request", "decisionId"),
        ("/api/chat", {"message": "x", "messages": [{}]}, 400, "invalid_request", None),
        ("/api/chat", {"message": "x", "model": "nowhere"}, 404, "model_not_found", "model"),
        ("/api/elsewhere", {}, 404, "unknown_url", None),
        (REPORT, {"decisionId": "dec-none", "cost": 1e300}, 400, "invalid_request", "cost"),
        (REPORT, {"decisionId": "dec-none", "inputTokens": 10**30}, 400, "invalid_request", "inputTokens"),
        (REPORT, b'{"decisionId": "dec-none", "cost": Infinity}', 400, "invalid_json", None),
        (FEEDBACK, {"decisionId": "dec-none", "rating": 1, "comment": "x" * 300_000}, 413, "body_too_large", None),
        (ANALYZE, b'{"query": "\\ud800"}', 400, "invalid_json", None),
        (ANALYZE, b'{"messages": [' + b"{}," * 600_000 + b"{}]}", 413, "body_too_complex", None),
        ("/api/chat", b'{"messages": [' + b"{}," * 600_000 + b"{}]}", 413, "body_too_complex", None),
        ("/api/chat", b'{"message": "x", "temperature": NaN}', 400, "invalid_json", None),
        (
            "/v1/responses",
            {"model": "one", "input": "x", "background": True},
            400,
            "background_not_supported",
            "background",
        ),
    ],
)
async def test_what_is_wrong_is_named(
    door: Served, path: str, body: dict[str, Any] | bytes, status: int, code: str, param: str | None
) -> None:
    async with engine("one") as one:
        await door.serve(served("one", one.url))
        told: Any = {"data": body} if isinstance(body, bytes) else {"json": body}
        answered, content, _ = await door.gateway.post(path, **told)
    assert (answered, content["error"]["code"], content["error"]["param"]) == (status, code, param)


async def test_a_project_does_not_judge_anothers_decisions(door: Served) -> None:
    async with engine("one") as one:
        await door.serve(served("one", one.url))
        headers = await _ask(door.gateway, 1)
        said = {"decisionId": headers["x-imts-decision-id"], "rating": 1}
        assert (await door.gateway.post(FEEDBACK, OTHER, json=said))[0] == 404
        assert (await door.gateway.post(FEEDBACK, MEMBER, json=said))[0] == 200


async def test_the_same_again_speaks_against_the_answer_before(door: Served) -> None:
    async with engine("one") as one:
        await door.serve(served("one", one.url))
        first = await _ask(door.gateway, 98_765)
        await _ask(door.gateway, 98_765)
        for _ in range(100):
            feedback = [one for report in door.platform.reports for one in report.feedback]
            found = [one for one in feedback if one.decision_id == first["x-imts-decision-id"]]
            if found:
                break
            await asyncio.sleep(0.02)
    assert [one.signal for one in found] == ["regenerated"]


async def test_a_budget_that_is_spent_refuses(door: Served) -> None:
    async with engine("dear") as dear:
        model = ProviderModel(name="dear", input_price=1_000_000, output_price=1_000_000)
        await door.serve(providers=[provider("dear", dear.url, model)], routes=[route("tight", budget=100)])
        status, content, _ = await door.gateway.post(
            CHAT, json={"model": "tight", "messages": question(1), "max_tokens": 5}
        )
        assert status == 200, content
        answered = [
            (await door.gateway.post(CHAT, json={"model": "tight", "messages": question(n), "max_tokens": 5}))
            for n in range(30)
        ]
        used = (await door.used(8))["dear", "dear"]
    statuses = [one[0] for one in answered]
    assert statuses == sorted(statuses), "what was held for a request that has ended refuses nobody"
    assert statuses[-1] == 429
    assert answered[-1][1]["error"]["code"] == "insufficient_quota"
    assert used.cost <= 100


async def test_a_plain_chat_and_the_list_of_models(door: Served) -> None:
    async with engine("one") as one:
        await door.serve(served("one", one.url), routes=[route("mine", models=["one"])])
        status, content, _ = await door.gateway.post("/api/chat", json={"message": "Hello"})
        _, listed = await door.gateway.get("/models")
        _, as_openai = await door.gateway.get("/v1/models")
        alone = [(await door.gateway.get(f"/v1/models/{name}"))[1]["owned_by"] for name in ("mine", "auto", "one")]
    assert (status, content["model"], content["content"]) == (200, "one", "I am one.")
    assert content["decisionId"].startswith("dec-")
    assert content["usage"]["completion_tokens"] == 4
    assert [(model["name"], model["state"]) for model in listed["models"]] == [("one", "ready")]
    assert listed["routes"] == ["auto", "mine"]
    assert [model["id"] for model in as_openai["data"]] == ["one", "mine"]
    assert alone == ["route", "route", "default"]


@asynccontextmanager
async def judging(verdict: str, pause: float = 0.0) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        await asyncio.sleep(pause)
        message = {"role": "assistant", "content": verdict}
        usage = {"prompt_tokens": 50, "completion_tokens": 3}
        return web.json_response({"choices": [{"message": message}], "usage": usage})

    port = free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with serving(app, port):
        yield f"http://127.0.0.1:{port}", asked


async def test_a_judge_is_asked_where_it_is_open_and_its_word_counts(door: Served) -> None:
    async with engine("one") as one, engine("other") as other, judging("Number 2 it is.") as (url, asked):
        by = route("a-judge", models=["one", "other"], judge=Judge(model="wise", timeout_ms=2000))
        await door.serve(served("one", one.url), served("other", other.url), served("wise", url), routes=[by])
        chosen = Counter([(await _ask(door.gateway, number, "a-judge"))["x-imts-model"] for number in range(8)])
        decisions = await _decisions(door, 8)
        for _ in range(100):
            used = door.platform.used().get(("wise", "deployment"))
            if used is not None and used.requests == len(asked):
                break
            await asyncio.sleep(0.02)
    assert chosen["other"] >= 5
    assert len(asked) >= 4
    assert used is not None
    assert used.output_tokens == 3 * len(asked), "what a judge costs is counted"
    assert "judge" in {one.policy for one in decisions}


async def test_a_judge_that_is_slow_is_not_waited_for(door: Served) -> None:
    async with engine("one") as one, engine("other") as other, judging("one", pause=5) as (url, asked):
        by = route("slowly", models=["one", "other"], judge=Judge(model="wise", timeout_ms=200))
        await door.serve(served("one", one.url), served("other", other.url), served("wise", url), routes=[by])
        for number in range(10):
            begun = time.monotonic()
            await _ask(door.gateway, number, "slowly")
            assert time.monotonic() - begun < 2
            if asked:
                break
        for _ in range(100):
            used = door.platform.used().get(("wise", "deployment"))
            if used is not None:
                break
            await asyncio.sleep(0.02)
    assert len(asked) == 1, "one in ten is left to the statistics"
    assert used is not None
    assert used.input_tokens == used.estimated_tokens > 100, "it read the question, whoever waits for what it says"


@pytest.mark.parametrize("whose", ["key", "project", "route"])
async def test_a_judge_is_paid_out_of_the_callers_budgets(door: Served, whose: str) -> None:
    """53 tokens of 0.01 each: of a budget of 5 there are at most nine verdicts, and no request fails for it."""
    async with engine("one") as one, engine("other") as other, judging("Number 2 it is.") as (url, asked):
        limits = Limits(money_budget=5, budget_period=Period.day)
        keys = [one.model_copy(update={"limits": limits}) if whose == "key" else one for one in KEYS]
        wise = ProviderModel(name="wise", input_price=10_000, output_price=10_000)
        by = route(
            f"of-a-{whose}",
            models=["one", "other"],
            judge=Judge(model="wise", timeout_ms=5000),
            budget=5 if whose == "route" else None,
        )
        await door.serve(
            served("one", one.url),
            served("other", other.url),
            keys=keys,
            projects=[KnownProject(name="default", limits=limits if whose == "project" else None)],
            providers=[provider("wise", url, wise)],
            routes=[by],
        )
        for number in range(60):
            await _ask(door.gateway, number, f"of-a-{whose}")
        used = (await door.used(60 + len(asked)))["wise", "wise"]
    assert 1 <= len(asked) <= 9
    assert used.requests == len(asked)
    assert used.cost == pytest.approx(0.53 * len(asked))


async def test_a_verdict_is_no_request_of_the_callers_rate(door: Served) -> None:
    async with engine("one") as one, engine("other") as other, judging("Number 2 it is.") as (url, asked):
        keys = [one.model_copy(update={"limits": Limits(requests_per_minute=20)}) for one in KEYS]
        by = route("rated", models=["one", "other"], judge=Judge(model="wise", timeout_ms=5000))
        models = (served("one", one.url), served("other", other.url), served("wise", url))
        await door.serve(*models, keys=keys, routes=[by])
        for number in range(20):
            await _ask(door.gateway, number, "rated")
        status, _, _ = await door.gateway.post(CHAT, json={"model": "rated", "messages": question(21)})
    assert status == 429
    assert len(asked) >= 5
