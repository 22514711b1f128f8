"""Usage, decisions and logged requests as people ask for them."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from control_plane.database import Database
from control_plane.retention import service as retention
from control_plane.routing.lessons import NEWEST
from control_plane.settings import ControlPlaneSettings
from imts_shared.contracts.access import Role
from tests.control_plane.conftest import NewKey
from tests.control_plane.gateway_side import GatewaySide, decision, feedback, logged, used
from tests.control_plane.test_datasets import analyzer
from tests.control_plane.worker_side import execute

__all__ = ["analyzer"]


@pytest.fixture
def gateway(url: str) -> GatewaySide:
    return GatewaySide(url)


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


async def pages(client: httpx.AsyncClient, path: str, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        answer = await client.get(path, params={**asked, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        cursor = answer.json()["nextCursor"]
        if cursor is None:
            return found


async def me(client: httpx.AsyncClient) -> str:
    return str((await client.get("/api/me")).json()["keyId"])


async def test_usage_is_added_up_by_what_is_asked(
    admin: httpx.AsyncClient, member: httpx.AsyncClient, gateway: GatewaySide
) -> None:
    key = await me(member)
    days = ("2026-11-01", "2026-11-02", "2026-11-03")
    await gateway.told(
        used=[
            *(used(day=day, keyId=key, model=model, cost=0.1) for day in days for model in ("a", "b")),
            used(day=days[0], project="other", model="a", cost=1, failed=1, cachedTokens=50, estimatedTokens=7),
        ]
    )
    found = (await admin.get("/api/usage")).json()
    assert [(one["day"], one["model"], one["requests"]) for one in found["items"]] == [
        ("2026-11-03", "a", 1), ("2026-11-03", "b", 1), ("2026-11-02", "a", 1), ("2026-11-02", "b", 1),
        ("2026-11-01", "a", 2), ("2026-11-01", "b", 1),
    ]  # fmt: skip
    assert found["total"] == {
        "day": None, "keyId": None, "keyName": None, "project": None, "model": None, "upstream": None, "requests": 7,
        "failed": 1, "inputTokens": 700, "cachedTokens": 50, "outputTokens": 70, "estimatedTokens": 7,
        "totalTokens": 770, "cost": 1.6,
    }  # fmt: skip
    assert await pages(admin, "/api/usage", limit=1) == found["items"]
    by_key = (await admin.get("/api/usage", params={"by": "key,project"})).json()["items"]
    assert {(one["keyId"], one["keyName"], one["project"], one["requests"]) for one in by_key} == {
        (key, "member key", "default", 6),
        (used()["keyId"], None, "other", 1),
    }
    own = (await member.get("/api/usage", params={"by": "model"})).json()
    assert (len(own["items"]), own["total"]["requests"], own["total"]["cost"]) == (2, 6, 0.6)
    some = await member.get("/api/usage", params={"from": days[1], "to": days[2], "model": "a", "by": "upstream"})
    assert [(one["upstream"], one["requests"]) for one in some.json()["items"]] == [("openai", 2)]
    nothing = (await member.get("/api/usage", params={"upstream": "nobody", "key": "nothing"})).json()
    assert (nothing["items"], nothing["total"]["requests"]) == ([], 0)
    assert (await admin.get("/api/usage", params={"project": "other"})).json()["total"]["requests"] == 1


async def test_who_may_see_whose_usage(
    url: str, member: httpx.AsyncClient, gateway: GatewaySide, new_key: NewKey
) -> None:
    headers = {"Authorization": f"Bearer {await new_key(Role.inference)}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        own = await me(client)
        await gateway.told(used=[used(keyId=own), used(keyId=await me(member)), used(project="other", keyId=own)])
        assert (await client.get("/api/usage")).json()["total"]["requests"] == 1
        assert (await client.get("/api/usage", params={"key": own})).json()["total"]["requests"] == 1
        other = await client.get("/api/usage", params={"key": await me(member)})
        assert (other.status_code, other.json()["code"]) == (404, "unknown_key")
        assert (await client.get("/api/routing/decisions")).status_code == 403
        assert (await client.get("/api/requests")).status_code == 403
    assert (await member.get("/api/usage")).json()["total"]["requests"] == 2
    assert (await member.get("/api/usage", params={"project": "other"})).status_code == 404


async def test_usage_for_spreadsheets(admin: httpx.AsyncClient, gateway: GatewaySide) -> None:
    await gateway.told(used=[used(model="=1+1"), used(model="b")])
    table = await admin.get("/api/usage", headers={"Accept": "text/csv"}, params={"by": "model"})
    assert table.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(table.text)))
    assert [(line["model"], line["requests"], line["day"]) for line in lines] == [("'=1+1", "1", ""), ("b", "1", "")]


@pytest.mark.parametrize(
    ("path", "asked", "field"),
    [
        ("/api/usage", {"by": "color"}, "by"),
        ("/api/usage", {"from": "1763800000"}, "from"),
        ("/api/usage", {"to": "2026-02-30"}, "to"),
        ("/api/usage", {"cursor": "x"}, "cursor"),
        ("/api/routing/decisions", {"from": "yesterday"}, "from"),
        ("/api/requests", {"to": "7"}, "to"),
        ("/api/requests", {"limit": "0"}, "limit"),
    ],
)
async def test_questions_that_cannot_be(admin: httpx.AsyncClient, path: str, asked: Any, field: str) -> None:
    refused = await admin.get(path, params=asked)
    assert (refused.status_code, refused.json()["field"]) == (422, field)


async def test_decisions_are_found_with_what_was_said_of_them(
    admin: httpx.AsyncClient, member: httpx.AsyncClient, gateway: GatewaySide
) -> None:
    await gateway.told(
        decisions=[
            *(decision(f"d{number}", at=f"2026-11-0{number}T12:00:00Z") for number in range(1, 6)),
            decision("same", at="2026-11-05T12:00:00Z", model="b", route="fast"),
            decision("theirs", project="other", result=None),
        ],
        feedback=[feedback("d2", rating=2, comment="no"), feedback("d2", rating=4, label="law")],
    )
    found = await pages(member, "/api/routing/decisions", limit=2)
    assert [one["decisionId"] for one in found] == ["same", "d5", "d4", "d3", "d2", "d1"]
    [second] = [one for one in found if one["decisionId"] == "d2"]
    said = [(one["rating"], one["quality"], one["label"]) for one in second["feedback"]]
    assert said == [(2, 0.25, None), (4, 0.75, "law")]
    assert second["candidates"][0] == {**decision("x")["candidates"][0], "cost": None, "latencySeconds": None}
    assert second["result"]["latencySeconds"] == 1.5
    assert second["context"] == [1.0, 0.25, -3.5]
    assert (await member.get("/api/routing/decisions/d2")).json() == second
    some = await pages(member, "/api/routing/decisions", **{"from": "2026-11-02", "to": "2026-11-03"})
    assert [one["decisionId"] for one in some] == ["d3", "d2"]
    exact = await pages(member, "/api/routing/decisions", **{"from": "2026-11-05T12:00:00+00:00", "route": "auto"})
    assert [one["decisionId"] for one in exact] == ["d5"]
    assert [one["decisionId"] for one in await pages(admin, "/api/routing/decisions", model="b")] == ["same"]
    assert (await member.get("/api/routing/decisions/theirs")).json()["code"] == "unknown_decision"
    assert (await admin.get("/api/routing/decisions/theirs")).json()["result"] is None
    assert len(await pages(admin, "/api/routing/decisions", limit=3)) == 7


CHAT = {"model": "auto", "messages": [{"role": "user", "content": "Was ist ein Vertrag?"}]}


@pytest.mark.usefixtures("analyzer")
async def test_requests_are_found_and_become_a_data_set(
    admin: httpx.AsyncClient, member: httpx.AsyncClient, gateway: GatewaySide
) -> None:
    await gateway.told(
        decisions=[decision("good"), decision("bad")],
        feedback=[feedback("good", rating=5), feedback("bad", rating=1)],
        requests=[
            logged("r1", request=CHAT, answer=said("Eine Einigung."), decisionId="good"),
            logged("r2", request=CHAT, answer=said("Keine Ahnung."), decisionId="bad"),
            logged("r3"),
            logged("r4", request=CHAT, answer=said(""), status=500),
            logged("r5", request={"input": "no chat"}, answer=said("x"), model="embed"),
            logged("theirs", request=CHAT, answer=said("x"), project="other"),
        ],
    )
    found = await pages(member, "/api/requests", limit=2)
    assert [one["requestId"] for one in found] == ["r5", "r4", "r3", "r2", "r1"]
    assert (found[-1]["request"], found[-1]["answer"]) == (None, None)
    full = (await member.get("/api/requests", params={"content": "true", "model": "gpt-5"})).json()["items"]
    assert (full[-1]["request"], full[-1]["answer"]) == (CHAT, said("Eine Einigung."))
    assert len(await pages(admin, "/api/requests")) == 6
    for asked, answers in (({}, ["Eine Einigung.", "Keine Ahnung."]), ({"minRating": 4}, ["Eine Einigung."])):
        made = await member.post("/api/datasets/from-requests", json={"name": "talks", **asked})
        assert made.status_code == 201, made.text
        assert (made.json()["format"], made.json()["rows"], made.json()["badRows"]) == ("messages", len(answers), 0)
        content = (await member.get(f"/api/datasets/{made.json()['id']}/download")).text
        lines = [json.loads(line) for line in content.splitlines()]
        assert [line["messages"][-1] for line in lines] == [said(one) for one in answers]
        assert lines[0]["messages"][:-1] == CHAT["messages"]
    none = await member.post("/api/datasets/from-requests", json={"name": "talks", "model": "nobody"})
    assert (none.status_code, none.json()["code"]) == (409, "no_requests")
    assert (await member.post("/api/datasets/from-requests", json={"name": "t", "project": "other"})).status_code == 403


async def test_old_things_go(
    gateway: GatewaySide,
    database: Database,
    database_url: str,
    config: ControlPlaneSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if three lessons of a route were enough."""
    rules = [
        replace(rule, statement=rule.statement.replace(f"OFFSET {NEWEST} ", "OFFSET 3 ")) for rule in retention.RULES
    ]
    monkeypatch.setattr(retention, "RULES", rules)
    old = "2020-01-01T00:00:00Z"
    await gateway.told(
        decisions=[decision("old", at=old), *(decision(f"z{n}", at=old) for n in range(4)), decision("new")],
        feedback=[feedback("old")],
        requests=[logged("old", at=old), logged("new")],
    )
    removed = await retention.prune(database, config)
    assert removed == {"requests": 1, "decisions": 5, "lessons": 4}
    kept = await gateway.get("/lessons")
    assert [one["decisionId"] for one in kept["items"]] == ["z3", "new", "old"]
    execute(database_url, "UPDATE request_log SET at = at - interval '1 year'")
    assert await retention.prune(database, config) == {"requests": 1}
