"""POST /api/routing/evaluate: reckoned apart, one at a time, within bounds."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from imts_shared.contracts.routes import Candidate, DecisionLine, DecisionPage, Feedback, Result, RouteSettings
from imts_shared.contracts.serving import KnownProject
from inference_service.gateway import reckoning, replay
from inference_service.routing.features import Extractor
from tests.gateway.conftest import Served, gateway_process
from tests.gateway.platform_side import ADMIN, MEMBER, Platform, platform

EVALUATE = "/api/routing/evaluate"
BEGUN = datetime(2026, 10, 1, tzinfo=UTC)


def lines(number: int) -> list[DecisionLine]:
    """`good` answers well, `bad` does not, and each is chosen by a coin."""
    random = np.random.default_rng(1)
    features = Extractor().extract({"messages": [{"role": "user", "content": "What is the capital of France?"}]})
    told = {
        "features": {**features.as_dict(), "rows": features.rows},
        "context": [round(float(one), 4) for one in features.context],
    }
    candidates = [Candidate(model=name, score=0.5, propensity=0.5, cost=0.0) for name in ("good", "bad")]
    found = []
    for place in range(number):
        at = BEGUN + timedelta(seconds=place)
        model = "good" if random.random() < 0.5 else "bad"
        quality = float(random.random() < (0.9 if model == "good" else 0.2))
        said = Feedback(decision_id=f"dec-{place}", rating=3, quality=quality, at=at)
        found.append(
            DecisionLine(
                decision_id=f"dec-{place}",
                model=model,
                reason="a coin",
                project="default",
                policy="thompson",
                candidates=candidates,
                at=at,
                result=Result(cost=0.0, latency_seconds=0.1),
                feedback=[said],
                **told,
            )
        )
    return found[::-1]


def paged(here: Platform, found: list[DecisionLine], pause: float = 0.0) -> list[dict[str, str]]:
    """The newest first, as the control plane gives them."""
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append({**request.query, "authorization": request.headers["authorization"]})
        await asyncio.sleep(pause)
        at, limit = int(request.query.get("cursor", "0")), int(request.query["limit"])
        page = DecisionPage(
            items=found[at : at + limit], next_cursor=str(at + limit) if at + limit < len(found) else None
        )
        return web.Response(text=page.model_dump_json(by_alias=True), content_type="application/json")

    here.decided = answer
    return asked


async def test_policies_are_valued_on_all_pages_with_the_callers_key(door: Served) -> None:
    await door.serve()
    asked = paged(door.platform, lines(900))
    body = {"policies": ["fixed:good", "fixed:bad"], "from": "2026-10-01T00:00:00Z"}
    status, content, _ = await door.gateway.post(EVALUATE, json=body)
    assert status == 200, content
    assert content["decisions"] == 900
    assert "note" not in content
    values = {one["policy"]: one["value"] for one in content["policies"]}
    assert values["fixed:good"] == pytest.approx(0.9, abs=0.06)
    assert values["fixed:bad"] == pytest.approx(0.2, abs=0.06)
    assert [one.get("cursor") for one in asked] == [None, "500"]
    assert {one["authorization"] for one in asked} == {f"Bearer {MEMBER}"}
    assert {one["project"] for one in asked} == {"default"}
    assert asked[0]["from"].startswith("2026-10-01T00:00:00")
    status, content, _ = await door.gateway.post(EVALUATE, json={})
    assert [one["policy"] for one in content["policies"]] == [*reckoning.KNOWN, "fixed:bad", "fixed:good"]


async def test_the_decisions_are_of_the_project_that_is_meant(door: Served) -> None:
    """A key of all projects sees them all, and means `default` where it names none."""
    await door.serve(projects=[KnownProject(name="default"), KnownProject(name="other")])
    for told, meant in (({}, "default"), ({"openai-project": "other"}, "other")):
        asked = paged(door.platform, lines(10))
        status, content, _ = await door.gateway.post(EVALUATE, ADMIN, json={}, headers=told)
        assert status == 200, content
        assert [one["project"] for one in asked] == [meant]


async def test_a_model_that_was_never_tried_has_no_value_and_it_is_said_why(door: Served) -> None:
    await door.serve()
    paged(door.platform, lines(100))
    _, content, _ = await door.gateway.post(EVALUATE, json={"policies": ["fixed:nope"]})
    [told] = content["policies"]
    for name in ("value", "standardError", "ips", "snips"):
        assert told[name] is None, name
    assert (told["effectiveSamples"], told["records"]) == (0.0, 100)
    assert told["logged"] is not None
    assert "`nope`, which was never a candidate here: check the name" in told["note"]


async def test_one_runs_at_a_time(door: Served) -> None:
    await door.serve()
    paged(door.platform, lines(10), pause=1.0)
    first = asyncio.create_task(door.gateway.post(EVALUATE, json={}))
    await asyncio.sleep(0.3)
    status, content, headers = await door.gateway.post(EVALUATE, json={})
    assert (status, content["error"]["code"], headers["retry-after"]) == (429, "evaluation_under_way", "10")
    assert (await first)[0] == 200
    paged(door.platform, [])
    assert (await door.gateway.post(EVALUATE, json={}))[0] == 200


async def test_it_ends_with_its_caller(door: Served) -> None:
    await door.serve()
    asked = paged(door.platform, lines(10), pause=30.0)
    async with aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session:
        left = asyncio.create_task(session.post(EVALUATE, json={}))
        for _ in range(1_000):
            if asked:
                break
            await asyncio.sleep(0.02)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
    paged(door.platform, [])
    for _ in range(100):
        status, _, _ = await door.gateway.post(EVALUATE, json={})
        if status == 200:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it goes on without its caller")


async def test_it_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    async with platform() as here:
        paged(here, lines(10), pause=60.0)
        with gateway_process(tmp_path, here.url, IMTS_GATEWAY_EVALUATE_SECONDS="3") as gateway:
            await gateway.until_up()
            await gateway.until_knows("v0")
            begun = time.monotonic()
            status, content, _ = await gateway.post(EVALUATE, json={})
            assert (status, content["error"]["code"]) == (504, "evaluation_timeout")
            assert "name a shorter time with from and to" in content["error"]["message"]
            assert 2.9 <= time.monotonic() - begun < 10


async def test_what_the_control_plane_refuses_is_passed_on(door: Served) -> None:
    await door.serve()

    async def refuses(_request: web.Request) -> web.Response:
        return web.json_response(
            {"code": "x", "detail": "This key may not.", "title": "Forbidden", "status": 403}, status=403
        )

    door.platform.decided = refuses
    status, content, _ = await door.gateway.post(EVALUATE, json={})
    assert (status, content["error"]["message"]) == (403, "This key may not.")
    status, content, _ = await door.gateway.post(EVALUATE, json={"policies": ["best"]})
    assert (status, content["error"]["param"]) == (400, "policies")


async def test_only_so_many_decisions_are_read_and_that_is_said() -> None:
    async with platform() as here:
        asked = paged(here, lines(70))
        task = reckoning.Task(
            url=here.url, headers={"authorization": f"Bearer {MEMBER}"}, query={"route": "auto"}, policies=["uniform"],
            settings=RouteSettings(), most=50, seconds=30,
        )  # fmt: skip
        found = await reckoning.found(task)
        assert (found.decisions, found.cut) == (50, True)
        found = await reckoning.found(task.model_copy(update={"most": 70}))
        assert (found.decisions, found.cut) == (70, False)
    assert asked[0]["limit"] == "50"
    assert replay.MOST == 20_000
