"""Tokens of projects: who may set them, who gets them, and that nothing else ever shows them."""

import json
from typing import Any

import httpx
import psycopg
import pytest
from loguru import logger

from control_plane.api.app import running
from control_plane.database import Database
from control_plane.settings import ControlPlaneSettings
from control_plane.settings import settings as cached_settings
from control_plane.tokens import service
from control_plane.tokens.sealing import Sealed, Sealer, Unreadable
from imts_shared.contracts.access import Role
from imts_shared.contracts.internal import ClaimAnswer
from tests.conftest import SECRET_KEY
from tests.control_plane.conftest import NewKey
from tests.control_plane.test_jobs import submit
from tests.control_plane.worker_side import WorkerSide, execute

PLACE = "/api/projects/default/tokens"
VALUE = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz01QzVw"
"""Its end is nothing that a time or an id ends up with by chance."""
NEW_SECRET_KEY = "another-secret-key-0123456789abcdef0123456789"


@pytest.fixture
async def worker(url: str, database: Database) -> WorkerSide:
    side = WorkerSide(url, database)
    await side.join(kinds=("training", "analysis", "evaluation", "export"), slots=8)
    return side


@pytest.fixture
def log() -> Any:
    lines: list[str] = []
    number = logger.add(lambda message: lines.append(str(message) + json.dumps(message.record["extra"], default=str)))
    yield lines
    logger.remove(number)


async def claimed(client: httpx.AsyncClient, worker: WorkerSide, kind: str) -> tuple[str, dict[str, Any]]:
    job = await submit(client, kind, **({"modelName": "builtin:tiny-qwen3"} if kind != "analysis" else {}))
    [message] = await worker.dispatch()
    answer = await worker.claim(message)
    assert answer.status_code == 200, answer.text
    return job["id"], answer.json()


async def messages(client: httpx.AsyncClient, job_id: str) -> list[str]:
    found = await client.get(f"/api/jobs/{job_id}/events", params={"type": "message"})
    return [event["data"]["text"] for event in found.json()["items"] if event["type"] == "message"]


async def test_tokens_are_set_listed_replaced_and_deleted_and_never_shown(member: httpx.AsyncClient) -> None:
    first = await member.put(f"{PLACE}/huggingface", json={"value": VALUE})
    assert first.status_code == 200
    me = (await member.get("/api/me")).json()["keyId"]
    said = first.json()
    assert (said["name"], said["setBy"], said["hint"], said["problem"]) == ("huggingface", me, VALUE[-4:], None)
    short = await member.put(f"{PLACE}/reward:judge", json={"value": "x" * 20})
    assert short.json()["hint"] is None
    replaced = await member.put(f"{PLACE}/huggingface", json={"value": VALUE + "new!"})
    assert replaced.json()["hint"] == "new!"
    assert replaced.json()["setAt"] > said["setAt"]
    listed = await member.get(PLACE)
    assert [one["name"] for one in listed.json()["items"]] == ["huggingface", "reward:judge"]
    for answer in (first, short, replaced, listed):
        assert VALUE not in answer.text
        assert VALUE[:8] not in answer.text
    assert (await member.delete(f"{PLACE}/huggingface")).status_code == 204
    assert (await member.delete(f"{PLACE}/huggingface")).json()["code"] == "unknown_token"
    assert [one["name"] for one in (await member.get(PLACE)).json()["items"]] == ["reward:judge"]


@pytest.mark.parametrize("value", ["", "two\nlines", "tail\n", " qq", "tab\tin", "nül", "x" * 4097, 7, None])
async def test_values_that_cannot_be_are_refused_without_being_repeated(member: httpx.AsyncClient, value: Any) -> None:
    refused = await member.put(f"{PLACE}/wandb", json={"value": value})
    assert (refused.status_code, refused.json()["field"]) == (422, "value")
    if isinstance(value, str) and len(value) > 4:
        assert value not in json.loads(refused.text)["detail"]
    assert (await member.put(f"{PLACE}/wandb", json={"value": "Bearer " + "x" * 4089})).status_code == 200


@pytest.mark.parametrize("name", [VALUE, "reward:", "reward:a-b", "reward:huggingface", "reward:" + "x" * 41, "HF"])
async def test_names_that_cannot_be_are_refused_without_being_repeated(member: httpx.AsyncClient, name: str) -> None:
    refused = await member.put(f"{PLACE}/{name}", json={"value": "abc"})
    assert (refused.status_code, refused.json()["field"]) == (422, "name")
    assert VALUE not in refused.text
    assert "huggingface" in refused.text or "service's name" in refused.text


async def test_who_may(url: str, admin: httpx.AsyncClient, member: httpx.AsyncClient, new_key: NewKey) -> None:
    assert (await admin.put(f"{PLACE}/wandb", json={"value": VALUE})).status_code == 200
    keys = {role: await new_key(role) for role in (Role.viewer, Role.inference)}
    stranger = await new_key(Role.member, "other")
    async with httpx.AsyncClient(base_url=url) as client:

        async def tried(key: str, method: str, path: str = PLACE, **more: Any) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return (await client.request(method, path, headers=headers, **more)).status_code

        for role, key in keys.items():
            assert await tried(key, "PUT", f"{PLACE}/wandb", json={"value": "mine"}) == 403
            assert await tried(key, "DELETE", f"{PLACE}/wandb") == 403
            assert await tried(key, "GET") == (200 if role == Role.viewer else 403)
        assert await tried(stranger, "PUT", f"{PLACE}/wandb", json={"value": "mine"}) == 404
        assert await tried(stranger, "DELETE", f"{PLACE}/wandb") == 404
        assert await tried(stranger, "GET") == 404
        assert await tried(stranger, "PUT", "/api/projects/other/tokens/wandb", json={"value": "mine"}) == 200
    for method in ("GET", "PUT"):
        nowhere = "/api/projects/nowhere/tokens" + ("/wandb" if method == "PUT" else "")
        answer = await admin.request(method, nowhere, json={"value": VALUE} if method == "PUT" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_project")
    assert (await member.get(PLACE)).json()["items"][0]["hint"] == VALUE[-4:]


async def test_attempts_get_the_tokens_of_their_project_and_nobody_else_does(
    admin: httpx.AsyncClient, worker: WorkerSide, database_url: str, log: list[str]
) -> None:
    header = "Bearer reward-header-0123456789"
    await admin.put(f"{PLACE}/huggingface", json={"value": VALUE})
    await admin.put(f"{PLACE}/reward:judge", json={"value": header})
    await admin.put("/api/projects/other/tokens/wandb", json={"value": "of-the-other-project-012345"})
    for kind in ("training", "export", "evaluation"):
        job_id, claim = await claimed(admin, worker, kind)
        assert claim["secrets"] == {"huggingface": VALUE, "judge": header}
        assert await messages(admin, job_id) == []
        assert VALUE not in repr(ClaimAnswer.model_validate(claim))
    analysis = (await submit(admin, "evaluation", modelName="builtin:tiny-qwen3"))["id"]
    execute(database_url, "UPDATE jobs SET kind = 'analysis' WHERE id = %s", analysis)
    [message] = await worker.dispatch()
    assert message.job_id == analysis
    assert (await worker.claim(message)).json()["secrets"] == {}
    with psycopg.connect(database_url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (name,) in names:
            stored = connection.execute(f'SELECT t::text FROM "{name}" t').fetchall()  # type: ignore[arg-type]
            for (row,) in stored:
                for value in (VALUE, VALUE[-4:], header, VALUE.encode().hex(), header.encode().hex()):
                    assert value not in row, (name, row)
    shown = [(await admin.get(path)).text for path in ("/api/jobs", f"/api/jobs/{job_id}/events", PLACE)]
    for text in (*shown, *log):
        assert VALUE not in text
        assert header not in text


def with_keys(monkeypatch: pytest.MonkeyPatch, new: str, old: str = "") -> ControlPlaneSettings:
    monkeypatch.setenv("IMTS_SECRET_KEY", new)
    monkeypatch.setenv("IMTS_OLD_SECRET_KEYS", old)
    cached_settings.cache_clear()
    return cached_settings()


async def test_another_secret_key_costs_the_tokens_and_nothing_else(
    admin: httpx.AsyncClient,
    worker: WorkerSide,
    config: ControlPlaneSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await admin.put(f"{PLACE}/huggingface", json={"value": VALUE})
    changed = with_keys(monkeypatch, NEW_SECRET_KEY)
    monkeypatch.setattr(config, "secret_key", changed.secret_key)
    await admin.put(f"{PLACE}/wandb", json={"value": "readable-0123456789abcdef"})
    [lost, kept] = (await admin.get(PLACE)).json()["items"]
    assert (lost["hint"], kept["problem"]) == (None, None)
    assert "'huggingface' of project 'default' cannot be read" in lost["problem"]
    job = await submit(admin, modelName="builtin:tiny-qwen3")
    [message] = await worker.dispatch()
    for _ in range(2):
        claim = await worker.claim(message, claim_id="the same")
        assert claim.status_code == 200
        assert claim.json()["secrets"] == {"wandb": "readable-0123456789abcdef"}
    [said] = await messages(admin, job["id"])
    assert said == lost["problem"]


async def test_a_new_secret_key_reads_with_the_old_one_and_encrypts_anew_at_start(
    admin: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    await admin.put(f"{PLACE}/huggingface", json={"value": VALUE})
    changed = with_keys(monkeypatch, NEW_SECRET_KEY, f"{'z' * 40}, {SECRET_KEY}")
    async with database.transaction() as session:
        opened = await service.for_attempt(session, "training", "default", Sealer.of(changed))
    assert opened.secrets == {"huggingface": VALUE}
    assert VALUE not in repr(opened)
    async with running(changed):
        for _ in range(100):
            async with database.transaction() as session:
                alone = await service.for_attempt(session, "training", "default", Sealer(NEW_SECRET_KEY))
            if alone.secrets:
                break
    assert alone.secrets == {"huggingface": VALUE}
    async with database.transaction() as session:
        back = await service.for_attempt(session, "training", "default", Sealer(SECRET_KEY))
        assert (back.secrets, len(back.troubles)) == ({}, 1)
        assert await service.seal_anew(session, Sealer(NEW_SECRET_KEY)) == (0, [])
        assert await service.seal_anew(session, Sealer("y" * 40)) == (0, back.troubles)
    assert not [line for line in log if VALUE in line]


async def test_a_project_has_room_for_so_many(
    admin: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_TOKENS", 1)
    assert (await admin.put(f"{PLACE}/wandb", json={"value": "a"})).status_code == 200
    assert (await admin.put(f"{PLACE}/wandb", json={"value": "b"})).status_code == 200
    assert (await admin.put(f"{PLACE}/modelscope", json={"value": "b"})).json()["code"] == "too_many_tokens"


def test_a_sealed_value_opens_in_its_own_place_alone() -> None:
    sealer = Sealer(SECRET_KEY)
    sealed = sealer.seal(VALUE, "default", "wandb")
    assert sealer.open(sealed, "default", "wandb") == VALUE
    assert sealer.seal(VALUE, "default", "wandb") != sealed
    broken = Sealed(sealed.key_id, sealed.content[:-1] + bytes([sealed.content[-1] ^ 1]))
    for wrong, place in ((sealed, ("other", "wandb")), (sealed, ("default", "huggingface")),
                         (broken, ("default", "wandb")), (Sealed(sealed.key_id, b""), ("default", "wandb")),
                         (Sealed("ffff", sealed.content), ("default", "wandb"))):  # fmt: skip
        with pytest.raises(Unreadable):
            sealer.open(wrong, *place)


def test_old_keys_come_as_a_line_or_as_json(config: ControlPlaneSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in ("a,b", "a b", ' ["a", "b"]'):
        found = with_keys(monkeypatch, SECRET_KEY, line).old_secret_keys
        assert [key.get_secret_value() for key in found] == ["a", "b"]
    assert with_keys(monkeypatch, SECRET_KEY).old_secret_keys == []
