"""Routes: made, changed and deleted, their names kept apart from models', and known to gateways."""

import asyncio
from typing import Any

import httpx
import psycopg
import pytest

from tests.control_plane.conftest import NewKey
from tests.control_plane.gateway_side import GatewaySide, provider

PLACE = "/api/routes"


@pytest.fixture
def gateway(url: str) -> GatewaySide:
    return GatewaySide(url)


async def test_a_route_is_made_shown_replaced_and_deleted_and_gateways_know_at_once(
    member: httpx.AsyncClient, gateway: GatewaySide
) -> None:
    settings = {
        "models": ["gpt-5", "not-there-yet"],
        "qualityTarget": 0.8,
        "judge": {"model": "llama3"},
        "beliefs": [{"model": "gpt-5", "language": "de", "quality": 0.9}],
    }
    made = await member.post(PLACE, json={"name": "law", **settings})
    assert made.status_code == 201, made.text
    assert (made.json()["project"], made.json()["policy"]) == ("default", "thompson")
    [told] = (await gateway.snapshot())["routes"]
    assert told["judge"] == {"model": "llama3", "timeoutMs": 1000}
    assert told["beliefs"][0]["strength"] == 5
    replaced = (await member.put(f"{PLACE}/law", json={"policy": "linucb", "budget": 5})).json()
    assert (replaced["models"], replaced["policy"], replaced["budget"]) == ([], "linucb", 5)
    assert replaced["createdAt"] == made.json()["createdAt"] < replaced["updatedAt"]
    [told] = (await gateway.snapshot())["routes"]
    assert (told["policy"], told["judge"]) == ("linucb", None)
    assert (await member.get(f"{PLACE}/law")).json() == replaced
    assert (await member.delete(f"{PLACE}/law")).status_code == 204
    assert (await gateway.snapshot())["routes"] == []
    for method in ("GET", "DELETE"):
        assert (await member.request(method, f"{PLACE}/law")).json()["code"] == "unknown_route"
    assert (await member.put(f"{PLACE}/law", json={})).json()["code"] == "unknown_route"


async def test_projects_have_their_own(admin: httpx.AsyncClient, member: httpx.AsyncClient) -> None:
    for name in ("a", "b", "auto"):
        assert (await admin.post(PLACE, json={"name": name, "project": "other"})).status_code == 201
    assert (await admin.post(PLACE, json={"name": "a"})).json()["project"] == "default"
    assert (await member.get(PLACE)).json()["items"][0]["project"] == "default"
    assert (await member.get(f"{PLACE}/b")).status_code == 404
    assert (await member.get(f"{PLACE}/b", params={"project": "other"})).json()["code"] == "unknown_project"
    assert (await admin.get(f"{PLACE}/b", params={"project": "other"})).status_code == 200
    assert (await member.post(PLACE, json={"name": "c", "project": "other"})).json()["code"] == "other_project"
    assert (await admin.post(PLACE, json={"name": "c", "project": "nowhere"})).json()["code"] == "unknown_project"
    seen, cursor = [], None
    while True:
        page = (await admin.get(PLACE, params={"limit": 1, **({"cursor": cursor} if cursor else {})})).json()
        seen += [(one["project"], one["name"]) for one in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == [("default", "a"), ("other", "a"), ("other", "auto"), ("other", "b")]


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        ({"name": "Auto"}, 422, "name"),
        ({"name": "r", "models": ["x", "r"]}, 409, "models.1"),
        ({"name": "r", "models": ["auto"]}, 409, "models.0"),
        ({"name": "r", "judge": {"model": "r"}}, 409, "judge.model"),
        ({"name": "r", "qualityTarget": 2}, 422, "qualityTarget"),
        ({"name": "r", "policy": "dice"}, 422, "policy"),
        ({"name": "r", "memory": 1}, 422, "memory"),
        ({"name": "r", "beliefs": [{"model": "x", "quality": 7}]}, 422, "beliefs.0.quality"),
        ({"name": "r", "beliefs": [{"model": "x", "quality": 0.7, "language": "pt"}]}, 422, "beliefs.0.language"),
        ({"name": "r", "beliefs": [{"model": "x", "quality": 0.7, "domain": "coding"}]}, 422, "beliefs.0.domain"),
        ({"name": "r", "budget": 0}, 422, "budget"),
        ({"name": "gpt-5"}, 409, "name"),
    ],
)
async def test_routes_that_cannot_be(admin: httpx.AsyncClient, request_: Any, status: int, field: str) -> None:
    assert (await admin.post("/api/providers", json=provider())).status_code == 201
    refused = await admin.post(PLACE, json=request_)
    assert (refused.status_code, refused.json()["field"]) == (status, field)
    assert (await admin.post(PLACE, json={"name": "r"})).status_code == 201
    again = await admin.post(PLACE, json={"name": "r"})
    assert (again.status_code, again.json()["code"]) == (409, "route_exists")


async def test_a_route_lists_no_route_whichever_was_first(admin: httpx.AsyncClient) -> None:
    assert (await admin.post(PLACE, json={"name": "r2"})).status_code == 201
    refused = await admin.post(PLACE, json={"name": "r1", "models": ["x", "r2"]})
    said = refused.json()
    assert (refused.status_code, said["code"], said["field"]) == (409, "route_in_route", "models.1")
    refused = await admin.post(PLACE, json={"name": "r1", "judge": {"model": "r2"}})
    assert (refused.json()["code"], refused.json()["field"]) == ("judge_is_route", "judge.model")
    assert (await admin.post(PLACE, json={"name": "r1", "models": ["later"]})).status_code == 201
    for settings in ({"models": ["r2"]}, {"judge": {"model": "r2"}}):
        assert (await admin.put(f"{PLACE}/r1", json=settings)).status_code == 409
    refused = await admin.post(PLACE, json={"name": "later"})
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (409, "route_in_route", "name")
    assert "'r1'" in refused.json()["detail"]
    assert (await admin.put(f"{PLACE}/r1", json={"models": [], "judge": {"model": "later"}})).status_code == 200
    assert (await admin.post(PLACE, json={"name": "later"})).json()["code"] == "route_in_route"
    assert (await admin.put(f"{PLACE}/r1", json={})).status_code == 200
    assert (await admin.post(PLACE, json={"name": "later"})).status_code == 201
    assert (await admin.delete(f"{PLACE}/r2")).status_code == 204
    assert (await admin.put(f"{PLACE}/r1", json={"models": ["r2"]})).status_code == 200


async def test_another_projects_route_is_no_route_here(admin: httpx.AsyncClient) -> None:
    assert (await admin.post(PLACE, json={"name": "r2", "project": "other"})).status_code == 201
    assert (await admin.post(PLACE, json={"name": "r1", "models": ["r2"]})).status_code == 201
    assert (await admin.post(PLACE, json={"name": "r3", "project": "other"})).status_code == 201


async def test_routes_made_at_once_do_not_list_each_other(admin: httpx.AsyncClient) -> None:
    for number in range(5):
        one, other = f"a{number}", f"b{number}"
        made = await asyncio.gather(
            admin.post(PLACE, json={"name": one, "models": [other]}),
            admin.post(PLACE, json={"name": other, "models": [one]}),
        )
        assert sorted(each.status_code for each in made) == [201, 409]


async def test_a_name_that_a_model_has_as_well_may_be_listed(admin: httpx.AsyncClient, database_url: str) -> None:
    """Since before names were kept apart; in a route it is the model that answers."""
    assert (await admin.post("/api/providers", json=provider())).status_code == 201
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO routes (project, name, settings, created_at, updated_at)"
            " VALUES ('default', 'gpt-5', '{}', now(), now())"
        )
    assert (await admin.post(PLACE, json={"name": "r1", "models": ["gpt-5"]})).status_code == 201


async def test_a_deployment_is_not_called_like_a_route(member: httpx.AsyncClient) -> None:
    assert (await member.post(PLACE, json={"name": "fast"})).status_code == 201
    for name in ("fast", "auto"):
        refused = await member.post("/api/deployments", json={"model": "builtin:tiny-qwen3", "name": name})
        assert (refused.status_code, refused.json()["code"]) == (409, "name_taken"), refused.text
        assert "route" in refused.json()["detail"]
    made = await member.post("/api/deployments", json={"model": "builtin:tiny-qwen3", "name": "mine"})
    assert made.status_code in {201, 202}, made.text
    assert (await member.post(PLACE, json={"name": "mine"})).json()["code"] == "name_taken"


async def test_a_route_and_a_model_made_at_once_do_not_share_a_name(admin: httpx.AsyncClient) -> None:
    for number in range(5):
        name = f"n{number}"
        made = await asyncio.gather(
            admin.post(PLACE, json={"name": name}),
            admin.post("/api/providers", json=provider(f"p{number}", models=[{"name": name}])),
        )
        assert sorted(one.status_code for one in made) == [201, 409]


async def test_a_snapshots_version_changes_only_with_its_content(
    admin: httpx.AsyncClient, gateway: GatewaySide, new_key: NewKey
) -> None:
    await admin.post("/api/providers", json=provider())
    await admin.post(PLACE, json={"name": "r", "costWeight": 0.1})
    versions = []
    for change in (
        None,
        admin.put("/api/projects/default/limits", json={"moneyBudget": 0.1}),
        admin.put("/api/projects/default/requestLog", json={"level": "metadata"}),
        admin.patch("/api/providers/claude", json={"enabled": False}),
        admin.patch("/api/providers/claude", json={"enabled": True, "apiKey": "another"}),
        admin.put(f"{PLACE}/r", json={"costWeight": 0.2}),
        admin.delete(f"{PLACE}/r"),
    ):
        if change is not None:
            assert (await change).status_code in {200, 204}
        version = (await gateway.snapshot())["version"]
        await asyncio.sleep(1.1)
        assert (await gateway.snapshot())["version"] == version
        versions.append(version)
    assert len(set(versions)) == len(versions)
    waiting = asyncio.create_task(gateway.get("/snapshot", version=versions[-1], wait=10))
    await asyncio.sleep(0.2)
    await admin.post(PLACE, json={"name": "woken"})
    async with asyncio.timeout(5):
        assert (await waiting)["routes"][0]["name"] == "woken"
