"""Limits of keys and projects, what of them is spent, and what is logged of a project's requests."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from control_plane.usage.periods import EPOCH, start
from imts_shared.contracts.access import Role
from imts_shared.contracts.limits import Period
from tests.control_plane.conftest import NewKey
from tests.control_plane.gateway_side import GatewaySide

LIMITS = {"requestsPerMinute": 60, "tokenBudget": 1_000_000, "moneyBudget": 12.5, "budgetPeriod": "day"}
NOTHING = {
    "requestsPerMinute": None,
    "tokensPerMinute": None,
    "tokenBudget": None,
    "moneyBudget": None,
    "budgetPeriod": "month",
}


@pytest.fixture
def gateway(url: str) -> GatewaySide:
    return GatewaySide(url)


def use(database_url: str, day: date, key: str, project: str, tokens: int, cost: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO usage VALUES (%s, %s, %s, 'm', 'u', 1, 0, %s, 0, 1, 0, %s)", (day, key, project, tokens, cost)
        )


async def mine(client: httpx.AsyncClient) -> str:
    return str((await client.get("/api/me")).json()["keyId"])


def test_periods_begin_where_calendars_say() -> None:
    now = datetime(2026, 11, 21, 20, 44, 1, 5, tzinfo=UTC)
    assert start(Period.day, now) == datetime(2026, 11, 21, tzinfo=UTC)
    assert start(Period.week, now) == datetime(2026, 11, 16, tzinfo=UTC)
    assert start(Period.month, now) == datetime(2026, 11, 1, tzinfo=UTC)
    assert start(Period.total, now) == EPOCH
    assert start(Period.day, datetime.fromisoformat("2026-11-22T01:00:00+02:00")) == datetime(2026, 11, 21, tzinfo=UTC)


async def test_limits_are_set_and_gateways_know_at_once(
    admin: httpx.AsyncClient, member: httpx.AsyncClient, gateway: GatewaySide, database_url: str
) -> None:
    key = await mine(member)
    assert (await member.get(f"/api/keys/{key}/limits")).json()["limits"] == NOTHING
    for path in (f"/api/keys/{key}/limits", "/api/projects/default/limits"):
        put = await admin.put(path, json=LIMITS)
        assert put.status_code == 200, put.text
        assert put.json()["limits"] == {**NOTHING, **LIMITS}
        assert (await member.get(path)).json() == put.json()
    told = await gateway.snapshot()
    [known] = [one for one in told["keys"] if one["id"] == key]
    assert known["limits"] == {**NOTHING, **LIMITS}
    projects = {one["name"]: one for one in told["projects"]}
    assert projects["default"]["limits"] == {**NOTHING, **LIMITS}
    assert projects["other"] == {"name": "other", "limits": None, "requestLog": "off"}
    today = datetime.now(UTC).date()
    use(database_url, today, key, "default", 99, "0.1")
    use(database_url, today, "somebody", "default", 49, "0.2")
    use(database_url, today - timedelta(days=1), key, "default", 7, "5")
    spent = (await member.get(f"/api/keys/{key}/limits")).json()["spent"]
    assert spent == {"period": "day", "since": f"{today}T00:00:00Z", "requests": 1, "tokens": 100, "money": 0.1}
    spent = (await member.get("/api/projects/default/limits")).json()["spent"]
    assert (spent["requests"], spent["tokens"], spent["money"]) == (2, 150, 0.3)
    scopes = {one["scope"]: one for one in await gateway.get("/spent")}
    assert scopes == {
        f"key:{key}": {"scope": f"key:{key}", "periodStart": f"{today}T00:00:00Z", "tokens": 100, "money": 0.1},
        "project:default": {
            "scope": "project:default", "periodStart": f"{today}T00:00:00Z", "tokens": 150, "money": 0.3,
        },
    }  # fmt: skip
    await admin.put(f"/api/keys/{key}/limits", json={"tokenBudget": 5, "budgetPeriod": "total"})
    await admin.put("/api/projects/default/limits", json={"requestsPerMinute": 5})
    [one] = await gateway.get("/spent")
    assert (one["scope"], one["tokens"], one["money"]) == (f"key:{key}", 108, 5.1)
    assert one["periodStart"] == "1970-01-01T00:00:00Z"


async def test_keys_and_projects_are_made_with_limits(admin: httpx.AsyncClient) -> None:
    made = await admin.post("/api/keys", json={"name": "k", "role": "inference", "limits": {"tokensPerMinute": 5}})
    assert made.status_code == 201, made.text
    assert made.json()["limits"]["tokensPerMinute"] == 5
    [listed] = [one for one in (await admin.get("/api/keys")).json()["items"] if one["name"] == "k"]
    assert listed["limits"]["tokensPerMinute"] == 5
    project = (await admin.post("/api/projects", json={"name": "p", "limits": LIMITS, "maxRunningJobs": 3})).json()
    assert (project["limits"], project["maxRunningJobs"]) == ({**NOTHING, **LIMITS}, 3)
    assert (await admin.post("/api/projects", json={"name": "q"})).json()["limits"] is None


async def test_who_may(url: str, admin: httpx.AsyncClient, member: httpx.AsyncClient, new_key: NewKey) -> None:
    key, admins = await mine(member), await mine(admin)
    for path in (f"/api/keys/{key}/limits", "/api/projects/default/limits"):
        assert (await member.put(path, json={})).json()["code"] == "role_too_small"
    assert (await member.put("/api/projects/default/requestLog", json={"level": "full"})).status_code == 403
    assert (await member.get(f"/api/keys/{admins}/limits")).json()["code"] == "unknown_key"
    assert (await member.get("/api/projects/other/limits")).json()["code"] == "unknown_project"
    assert (await admin.get("/api/projects/nowhere/limits")).json()["code"] == "unknown_project"
    assert (await admin.put("/api/keys/nothing/limits", json={})).json()["code"] == "unknown_key"
    headers = {"Authorization": f"Bearer {await new_key(Role.inference)}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        own = await mine(client)
        assert (await client.get(f"/api/keys/{own}/limits")).status_code == 200
        assert (await client.get("/api/projects/default/limits")).status_code == 403


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"requestsPerMinute": -1}, "requestsPerMinute"),
        ({"tokenBudget": "5"}, "tokenBudget"),
        ({"moneyBudget": True}, "moneyBudget"),
        ({"budgetPeriod": "year"}, "budgetPeriod"),
        ({"moneyBugdet": 5}, "moneyBugdet"),
    ],
)
async def test_limits_that_cannot_be(admin: httpx.AsyncClient, limits: Any, field: str) -> None:
    refused = await admin.put("/api/projects/default/limits", json=limits)
    assert (refused.status_code, refused.json()["field"]) == (422, field)
    inside = await admin.post("/api/keys", json={"name": "k", "limits": limits})
    assert (inside.status_code, inside.json()["field"]) == (422, f"limits.{field}")


async def test_the_request_log_is_chosen_by_an_admin(admin: httpx.AsyncClient, gateway: GatewaySide) -> None:
    assert (await admin.put("/api/projects/other/requestLog", json={"level": "full"})).json()["requestLog"] == "full"
    told = {one["name"]: one["requestLog"] for one in (await gateway.snapshot())["projects"]}
    assert told == {"default": "off", "other": "full"}
    refused = await admin.put("/api/projects/other/requestLog", json={"level": "everything"})
    assert (refused.status_code, refused.json()["field"]) == (422, "level")
