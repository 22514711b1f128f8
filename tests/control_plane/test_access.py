"""Every route is tried with no key, a wrong key, every role, and another project's key."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from control_plane.api.app import create_app
from control_plane.settings import ControlPlaneSettings
from imts_shared.contracts.access import Role
from tests.control_plane.conftest import NewKey
from tests.control_plane.test_jobs import TRAINING, submit

OPEN = {"/healthz", "/readyz", "/info", "/metrics", "/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"}
READS = {Role.admin, Role.member, Role.viewer}
WRITES = {Role.admin, Role.member}


def allowed(method: str, path: str) -> set[Role]:
    """Who may use a route: the rule, written once more and independently of the endpoints."""
    if path.startswith("/internal/"):
        return set()
    if path in {"/api/me", "/api/usage"}:
        return set(Role)
    if path == "/api/keys/{key_id}/limits" and method == "GET":
        return set(Role)
    if "/tokens" in path:
        return READS if method == "GET" else WRITES
    if path.startswith("/api/keys") or (path.startswith("/api/projects") and method != "GET"):
        return {Role.admin}
    return READS if method == "GET" else WRITES


def routes(config: ControlPlaneSettings) -> list[tuple[str, str]]:
    spec = create_app(config).openapi()
    found = [(m.upper(), path) for path, methods in spec["paths"].items() for m in methods if path not in OPEN]
    assert len(found) >= 72
    return found


def concrete(path: str) -> str:
    return re.sub(r"{[^}]+}", "00000000-0000-0000-0000-000000000000", path.replace("{step}", "1"))


async def send(client: httpx.AsyncClient, method: str, path: str, key: str | None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return await client.request(method, concrete(path), headers=headers, json={} if method != "GET" else None)


async def test_every_route_with_no_key_a_wrong_key_and_every_role(
    config: ControlPlaneSettings, url: str, new_key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "failed_keys_per_minute", 100_000)
    keys = {role: await new_key(role) for role in Role}
    async with httpx.AsyncClient(base_url=url) as client:
        for method, path in routes(config):
            bare = await send(client, method, path, None)
            assert bare.status_code == 401, (method, path, bare.text)
            wrong = await send(client, method, path, "imts_wrong")
            assert wrong.status_code in {401, 422} and (wrong.status_code == 401 or "/internal/" in path), (
                method,
                path,
            )
            for role, key in keys.items():
                answer = await send(client, method, path, key)
                if path.startswith("/internal/"):
                    assert answer.status_code in {401, 409, 422}, (method, path, role, answer.text)
                elif role in allowed(method, path):
                    assert answer.status_code not in {401, 403, 500}, (method, path, role, answer.text)
                else:
                    assert answer.status_code == 403, (method, path, role, answer.status_code, answer.text)


async def test_another_projects_key_finds_nothing(
    config: ControlPlaneSettings, url: str, admin: httpx.AsyncClient, new_key: NewKey
) -> None:
    job = await submit(admin)
    stranger = {"Authorization": f"Bearer {await new_key(Role.member, 'other')}"}
    async with httpx.AsyncClient(base_url=url, headers=stranger) as client:
        for method, path in routes(config):
            if "{job_id}" not in path or path.startswith("/internal"):
                continue
            answer = await client.request(method, concrete(path.replace("{job_id}", job["id"])))
            assert answer.status_code == 404, (method, path, answer.text)
        assert (await client.get("/api/jobs")).json()["items"] == []
        assert (await client.get("/api/jobs", params={"project": "default"})).status_code == 404
        refused = await client.post("/api/training/jobs", json={**TRAINING, "project": "default"})
        assert (refused.status_code, refused.json()["field"]) == (403, "project")
        assert [p["name"] for p in (await client.get("/api/projects")).json()["items"]] == ["other"]
        own = await client.post("/api/training/jobs", json=TRAINING)
        assert own.json()["project"] == "other"
    assert (await admin.get("/api/jobs", params={"project": "other"})).json()["items"][0]["id"] == own.json()["id"]
    assert (await admin.get(f"/api/jobs/{job['id']}")).json()["state"] == "queued"


async def test_keys_are_shown_once_and_revocable_and_expire(url: str, admin: httpx.AsyncClient, database: Any) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
    made = [
        (await admin.post("/api/keys", json={"name": "a", "role": "viewer", **more})).json()
        for more in ({}, {"expiresAt": soon})
    ]
    listed = (await admin.get("/api/keys")).text
    for key in made:
        assert key["key"].startswith("imts_")
        assert key["key"] not in listed
        assert key["hint"] in listed

    async def works(key: dict[str, Any]) -> bool:
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key['key']}"}) as client:
            return (await client.get("/api/jobs")).status_code == 200

    assert [await works(key) for key in made] == [True, True]
    revoked = await admin.delete(f"/api/keys/{made[0]['id']}")
    assert revoked.json()["revokedAt"]
    assert not await works(made[0])
    await asyncio.sleep(3)
    assert not await works(made[1])
    past = await admin.post("/api/keys", json={"name": "a", "expiresAt": "2001-01-01T00:00:00Z"})
    assert (past.status_code, past.json()["field"]) == (409, "expiresAt")
    me = (await admin.get("/api/me")).json()
    assert me["role"] == "admin"
    assert (await admin.delete(f"/api/keys/{me['keyId']}")).json()["code"] == "own_key"
    nowhere = await admin.post("/api/keys", json={"name": "a", "project": "nowhere"})
    assert nowhere.json()["code"] == "unknown_project"


async def test_the_database_holds_no_key(admin: httpx.AsyncClient, database_url: str) -> None:
    import psycopg

    key = (await admin.post("/api/keys", json={"name": "a"})).json()["key"]
    with psycopg.connect(database_url) as connection:
        stored = json.dumps(connection.execute("SELECT * FROM api_keys").fetchall(), default=repr)
    assert key not in stored
    assert key[10:] not in stored


async def test_many_wrong_keys_are_slowed_and_a_good_one_still_works(url: str, admin: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        statuses = [
            (await client.get("/api/jobs", headers={"Authorization": f"Bearer imts_{n}"})).status_code
            for n in range(25)
        ]
        assert statuses == [401] * 20 + [429] * 5
        refused = await client.get("/api/jobs", headers={"Authorization": "Bearer imts_x"})
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["code"] == "too_many_failed_keys"
    assert (await admin.get("/api/jobs")).status_code == 200
