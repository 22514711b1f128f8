"""The client's routing and imts route against the real gateway; a small server plays the control plane."""

import asyncio
import json

import pytest

from imts_client import AsyncClient, Client, InvalidRequest, NotFound
from imts_shared.contracts.serving import KnownRoute
from tests.cli.test_real_platform import ran
from tests.gateway.conftest import Served, door, running
from tests.gateway.engines import engine
from tests.gateway.platform_side import ADMIN, MEMBER, served

__all__ = ["door", "running"]

QUESTION = "What does the law say about a lost contract?"


async def test_analyzed_reported_rated_and_counted(door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = door.gateway.url
    monkeypatch.setenv("IMTS_GATEWAY_URL", gateway)
    async with engine("one") as one, engine("other") as other, AsyncClient("http://127.0.0.1:1", MEMBER) as client:
        await door.serve(served("one", one.url), served("other", other.url))
        decision = await client.routing.analyze(QUESTION)
        assert decision.model in {"one", "other"}
        assert sum(candidate.propensity for candidate in decision.candidates) == pytest.approx(1)
        assert (await client.routing.report(decision.decision_id, latency_seconds=0.4, cost=0.001)).accepted
        assert (await client.routing.feedback(decision.decision_id, rating=5, label="law")).accepted
        answer = await client.routing.chat(QUESTION)
        assert (answer.model in {"one", "other"}, bool(answer.content), bool(answer.decision_id)) == (True, True, True)
        [stats] = (await client.routing.stats(route="auto")).routes
        [known] = [model for model in stats.models if model.model == decision.model]
        assert known.quality == pytest.approx(1)
        assert known.requests >= 1
        messages = [{"role": "user", "content": "你好，合同丢失了怎么办？"}]
        chinese = await client.routing.analyze(
            messages=messages, tools=[{"type": "function", "function": {"name": "f"}}]
        )
        assert chinese.features["language"] == "zh"
        with pytest.raises(NotFound) as unknown:
            await client.routing.analyze("x", route="nothing")
        assert (unknown.value.code, unknown.value.field) == ("unknown_route", "route")

        def blocking() -> None:
            with Client("http://127.0.0.1:1", MEMBER, gateway_url=gateway) as plain:
                again = plain.routing.analyze(QUESTION)
                plain.routing.report(again.decision_id, failed=True)

        await asyncio.to_thread(blocking)
        code, out, err = await ran(gateway, MEMBER, "route", "explain", QUESTION)
        assert (code, err) == (0, "")
        assert "language    en\n" in out
        assert "domain      law\n" in out
        assert f"\n*  {out.partition('choice    ')[2].splitlines()[0]}" in out, "the chosen one is marked"
        told = json.loads((await ran(gateway, MEMBER, "route", "explain", QUESTION, "--json"))[1])
        code, out, err = await ran(gateway, MEMBER, "route", "feedback", told["decisionId"], "--rating", "1")
        assert (code, out) == (0, f"Feedback on decision {told['decisionId']} is taken.\n"), err
        code, out, err = await ran(gateway, MEMBER, "route", "stats")
        assert (code, "Route auto of project default\nMODEL" in out) == (0, True), err


async def test_a_key_of_all_projects_asks_another_projects_route(door: Served) -> None:
    async with engine("one") as one, AsyncClient("http://127.0.0.1:1", ADMIN, gateway_url=door.gateway.url) as client:
        route = KnownRoute(name="theirs", project="other")
        await door.serve(served("one", one.url, project="other"), routes=[route])
        decision = await client.routing.analyze(QUESTION, route="theirs", project="other")
        assert (decision.project, decision.model) == ("other", "one")
        assert (await client.routing.report(decision.decision_id, cost=0.001)).accepted
        assert (await client.routing.feedback(decision.decision_id, rating=5)).accepted
        assert (await client.routing.chat(QUESTION, model="theirs", project="other")).model == "one"
        assert {one.project for one in (await client.routing.stats(project="other")).routes} == {"other"}
        with pytest.raises(NotFound) as elsewhere:
            await client.routing.analyze(QUESTION, route="theirs")
        assert elsewhere.value.code == "unknown_route"
        with pytest.raises(NotFound) as nobodys:
            await client.routing.analyze(QUESTION, project="grün")
        assert nobodys.value.code == "unknown_project"
        code, out, err = await ran(
            door.gateway.url, ADMIN, "route", "explain", QUESTION, "--route", "theirs", "--project", "other"
        )
        assert (code, "choice    one\n" in out, err) == (0, True, "")


async def test_what_the_gateway_refuses_is_the_clients_own_error(door: Served) -> None:
    async with engine("one") as one, AsyncClient("http://127.0.0.1:1", ADMIN, gateway_url=door.gateway.url) as client:
        await door.serve(served("one", one.url))
        messages = [{"role": "user", "content": "y"}]
        decision = await client.routing.analyze(QUESTION)
        for wrong in (
            client.routing.analyze("x", messages=messages),
            client.routing.chat("x", messages=messages),
            client.routing.analyze(),
            client.routing.feedback(decision.decision_id, rating=9),
            client.routing.report(decision.decision_id, cost=-1),
        ):
            with pytest.raises(InvalidRequest):
                await wrong
