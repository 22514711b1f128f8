"""Providers: who may have which, where they may lead, and that their keys are seen by nobody but gateways."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import psycopg
import pytest
from loguru import logger

from control_plane.api.app import running
from control_plane.database import Database
from control_plane.gateway.known import Providers
from control_plane.providers import keys
from control_plane.settings import ControlPlaneSettings
from control_plane.settings import settings as cached_settings
from control_plane.tokens.sealing import Sealer
from imts_shared.addresses import is_internal, is_named_internal
from imts_shared.contracts.access import Role
from imts_shared.sealing import ServiceSeal
from tests.conftest import SECRET_KEY, SERVICE_KEY
from tests.control_plane.conftest import NewKey
from tests.control_plane.gateway_side import PROVIDER_KEY, GatewaySide, provider

PLACE = "/api/providers"
NEW_SECRET_KEY = "another-secret-key-0123456789abcdef0123456789"


@pytest.fixture
def gateway(url: str) -> GatewaySide:
    return GatewaySide(url)


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    number = logger.add(
        lambda message: lines.append(str(message) + json.dumps(message.record["extra"], default=str)), level=0
    )
    yield lines
    logger.remove(number)


class Upstream:
    """A real provider that answers what it is told to and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                status, body = upstream.answers.get(self.path, (404, b"{}"))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://169.254.169.254/latest/meta-data")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.server.shutdown()


async def made(client: httpx.AsyncClient, name: str = "claude", **fields: Any) -> dict[str, Any]:
    answer = await client.post(PLACE, json=provider(name, **fields))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_provider_is_made_shown_changed_and_deleted_and_gateways_know_at_once(
    member: httpx.AsyncClient, gateway: GatewaySide
) -> None:
    first = await made(member, baseUrl="https://93.184.215.14/v1/")
    assert (first["project"], first["hasApiKey"], first["baseUrl"]) == ("default", True, "https://93.184.215.14/v1")
    [told] = (await gateway.snapshot())["providers"]
    assert ServiceSeal(SERVICE_KEY).open(told["sealedKey"], told["id"]) == PROVIDER_KEY
    assert (told["id"], told["project"], told["allowInternal"]) == (first["id"], "default", False)
    assert told["models"] == first["models"]
    changed = await member.patch(f"{PLACE}/claude", json={"limits": {"concurrency": 3}, "apiKey": "another-key"})
    assert changed.json()["limits"]["concurrency"] == 3
    assert changed.json()["models"] == first["models"]
    [told] = (await gateway.snapshot())["providers"]
    assert ServiceSeal(SERVICE_KEY).open(told["sealedKey"], told["id"]) == "another-key"
    assert (await member.patch(f"{PLACE}/{first['id']}", json={"enabled": False})).json()["enabled"] is False
    assert (await gateway.snapshot())["providers"] == []
    bare = await member.patch(f"{PLACE}/{first['id']}", json={"enabled": True, "apiKey": None})
    assert bare.json()["hasApiKey"] is False
    [told] = (await gateway.snapshot())["providers"]
    assert told["sealedKey"] is None
    assert (await member.delete(f"{PLACE}/claude")).status_code == 204
    assert (await gateway.snapshot())["providers"] == []
    assert (await member.get(f"{PLACE}/claude")).json()["code"] == "unknown_provider"


async def test_pages(admin: httpx.AsyncClient) -> None:
    for number in range(5):
        await made(admin, f"p{number}")
    seen: list[str] = []
    cursor = None
    while True:
        page = (await admin.get(PLACE, params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        seen += [one["name"] for one in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == ["p4", "p3", "p2", "p1", "p0"]


async def test_the_key_is_nowhere(
    admin: httpx.AsyncClient, gateway: GatewaySide, database_url: str, log: list[str]
) -> None:
    answers = [
        await admin.post(PLACE, json=provider()),
        await admin.get(PLACE),
        await admin.get(f"{PLACE}/claude"),
        await admin.patch(f"{PLACE}/claude", json={"apiKey": PROVIDER_KEY, "enabled": 7}),
        await admin.patch(f"{PLACE}/claude", json={"apiKey": PROVIDER_KEY + "\n"}),
        await admin.patch(f"{PLACE}/claude", json={"apiKey": [PROVIDER_KEY]}),
        await admin.patch(f"{PLACE}/claude", json={"apiKey": PROVIDER_KEY, "baseUrl": "ftp://x"}),
        await admin.post(PLACE, json=provider(apiKey=PROVIDER_KEY * 200)),
        await admin.post(PLACE, json=provider(api_kye=PROVIDER_KEY)),
        await admin.post(PLACE, json=provider()),
        await admin.post(PLACE, content=json.dumps(provider())[:-5]),
        await admin.post(f"{PLACE}/claude/check"),
        await gateway.http.get("/snapshot"),
    ]
    assert [one.status_code for one in answers] == [201, 200, 200, 422, 422, 422, 422, 422, 422, 409, 422, 200, 200]
    for one in answers:
        assert PROVIDER_KEY not in one.text
        assert PROVIDER_KEY[:12] not in one.text
    assert answers[4].json()["field"] == "apiKey"
    for line in log:
        assert PROVIDER_KEY not in line
    with psycopg.connect(database_url) as connection:
        for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            for (row,) in connection.execute(f'SELECT t::text FROM "{name}" t').fetchall():  # type: ignore[arg-type]
                assert PROVIDER_KEY not in row
                assert PROVIDER_KEY.encode().hex() not in row


async def test_who_may(url: str, admin: httpx.AsyncClient, member: httpx.AsyncClient, new_key: NewKey) -> None:
    everyones = await made(admin, "everyones")
    assert everyones["project"] is None
    own = await made(member, "own")
    theirs = await made(admin, "theirs", project="other")
    assert (await member.post(PLACE, json=provider("x", project="other"))).json()["code"] == "other_project"
    missing = await admin.post(PLACE, json=provider("x", project="nowhere"))
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_project")
    assert [one["name"] for one in (await member.get(PLACE)).json()["items"]] == ["own", "everyones"]
    assert len((await admin.get(PLACE)).json()["items"]) == 3
    assert [one["name"] for one in (await admin.get(PLACE, params={"project": "other"})).json()["items"]] == [
        "theirs",
        "everyones",
    ]
    assert (await member.get(PLACE, params={"project": "other"})).status_code == 404
    for method in ("GET", "PATCH", "DELETE"):
        hidden = await member.request(method, f"{PLACE}/{theirs['id']}", json={} if method == "PATCH" else None)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "unknown_provider")
    for method in ("PATCH", "DELETE"):
        refused = await member.request(
            method, f"{PLACE}/everyones", json={"enabled": False} if method == "PATCH" else None
        )
        assert (refused.status_code, refused.json()["code"]) == (403, "admin_only")
    for role in (Role.viewer, Role.inference):
        headers = {"Authorization": f"Bearer {await new_key(role)}"}
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            assert (await client.get(f"{PLACE}/{own['id']}")).status_code == (200 if role == Role.viewer else 403)
            assert (await client.delete(f"{PLACE}/{own['id']}")).status_code == 403
            assert (await client.post(PLACE, json=provider("y"))).status_code == 403


async def test_names(admin: httpx.AsyncClient, member: httpx.AsyncClient) -> None:
    await made(admin, "one")
    await made(admin, "two", project="other")
    await made(member, "two")
    for taken in (provider("one"), provider("one", project="other"), provider("two"), provider("two", project="other")):
        refused = await admin.post(PLACE, json=taken)
        assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (
            409,
            "provider_exists",
            "name",
        )
    assert (await admin.get(f"{PLACE}/two")).json()["code"] == "ambiguous_name"
    assert (await admin.get(f"{PLACE}/two", params={"project": "other"})).json()["project"] == "other"
    assert (await member.get(f"{PLACE}/two")).json()["project"] == "default"


@pytest.mark.parametrize(
    ("models", "field", "code"),
    [
        ([{"name": "a"}, {"name": "a"}], "models.1.name", "model_twice"),
        ([{"name": "a", "fallbacks": ["b", "a"]}], "models.0.fallbacks.1", "own_fallback"),
        ([{"name": "b"}, {"name": "auto"}], "models.1.name", "name_of_route"),
        ([{"name": "fast"}], "models.0.name", "name_of_route"),
        ([{"name": "a b"}], "models.0.name", "invalid_request"),
        ([{"name": "a", "inputPrice": -1}], "models.0.inputPrice", "invalid_request"),
        ([], "models", "invalid_request"),
    ],
)
async def test_models_that_cannot_be(admin: httpx.AsyncClient, models: Any, field: str, code: str) -> None:
    assert (await admin.post("/api/routes", json={"name": "fast"})).status_code == 201
    await made(admin, "other")
    for refused in (
        await admin.post(PLACE, json=provider(project="default", models=models)),
        await admin.patch(f"{PLACE}/other", json={"models": models}),
    ):
        assert refused.status_code in {409, 422}
        assert (refused.json()["field"], refused.json()["code"]) == (field, code)
    assert (await admin.post(PLACE, json=provider(project="other", models=[{"name": "fast"}]))).status_code == 201


INSIDE = [
    "127.0.0.1", "localhost", "LOCALHOST.", "api.localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "10.1.2.3",
    "192.168.0.1", "169.254.169.254", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "0.0.0.0",
    "0",
    "[fd00:ec2::254]", "[fe80::1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "100.100.100.200", "168.63.129.16",
]  # fmt: skip


@pytest.mark.parametrize("host", INSIDE)
async def test_inside_addresses_are_refused(admin: httpx.AsyncClient, member: httpx.AsyncClient, host: str) -> None:
    inside = f"http://{host}:8000/v1"
    for client in (admin, member):
        refused = await client.post(PLACE, json=provider(baseUrl=inside))
        assert (refused.status_code, refused.json()["code"]) == (403, "internal_address"), refused.text
        assert refused.json()["field"] == "baseUrl"
        assert "allowInternal" in refused.json()["hint"]
    said = await member.post(PLACE, json=provider(baseUrl=inside, allowInternal=True))
    assert (said.status_code, said.json()["code"], said.json()["field"]) == (403, "admin_only", "allowInternal")
    assert (await admin.post(PLACE, json=provider(baseUrl=inside, allowInternal=True))).status_code == 201


def test_outside_addresses_are_not_inside() -> None:
    for host in ("example.com", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "1.1.1.1"):
        assert not is_named_internal(host)
    assert is_internal("::ffff:10.0.0.1")
    assert not is_internal("64:ff9b::808:808")


async def test_a_name_that_leads_nowhere_now_is_taken(member: httpx.AsyncClient) -> None:
    assert (await made(member, baseUrl="https://no-such-provider.invalid/v1"))["baseUrl"].startswith("https://no-such")


@pytest.mark.parametrize(
    "base_url",
    [
        "ftp://93.184.215.14", "https://user:pass@93.184.215.14/v1", "https://93.184.215.14/v1?key=1", "https://a/#b",
        "93.184.215.14", "https://", "https://93.184.215.14:99999", "https://exa mple.com", "https://１２７.0.0.1",
        "https://a@b/v1", "http://[::1", "http://[::::]", 7, "https://x/\u0000",
    ],
)  # fmt: skip
async def test_addresses_that_cannot_be(member: httpx.AsyncClient, base_url: Any) -> None:
    refused = await member.post(PLACE, json=provider(baseUrl=base_url))
    assert refused.status_code == 422
    assert refused.json()["field"] in {"baseUrl", "body"}
    assert "user:pass" not in refused.text


async def test_what_an_admin_allowed_is_moved_by_an_admin_alone(
    admin: httpx.AsyncClient, member: httpx.AsyncClient, gateway: GatewaySide
) -> None:
    await made(admin, "local", project="default", baseUrl="http://127.0.0.1:11434", allowInternal=True)
    moved = await member.patch(f"{PLACE}/local", json={"baseUrl": "http://127.0.0.1:5432", "apiKey": None})
    assert (moved.status_code, moved.json()["code"], moved.json()["field"]) == (403, "admin_only", "baseUrl")
    assert (await member.patch(f"{PLACE}/local", json={"allowInternal": False})).json()["code"] == "internal_address"
    assert (await member.patch(f"{PLACE}/local", json={"enabled": True})).status_code == 200
    out = {"baseUrl": "https://93.184.215.14", "apiKey": "k", "allowInternal": False}
    assert (await member.patch(f"{PLACE}/local", json=out)).status_code == 403
    assert (await admin.patch(f"{PLACE}/local", json=out)).json()["allowInternal"] is False
    assert (await member.patch(f"{PLACE}/local", json={"allowInternal": True})).status_code == 403
    [told] = (await gateway.snapshot())["providers"]
    assert (told["baseUrl"], told["allowInternal"]) == ("https://93.184.215.14", False)


async def test_a_key_does_not_follow_to_another_address(member: httpx.AsyncClient) -> None:
    await made(member)
    moved = await member.patch(f"{PLACE}/claude", json={"baseUrl": "https://1.1.1.1/v1"})
    assert (moved.status_code, moved.json()["code"], moved.json()["field"]) == (409, "key_needed", "apiKey")
    assert (await member.patch(f"{PLACE}/claude", json={"baseUrl": "https://93.184.215.14/v2"})).status_code == 200
    gone = await member.patch(f"{PLACE}/claude", json={"baseUrl": "https://1.1.1.1/v1", "apiKey": None})
    assert (gone.status_code, gone.json()["hasApiKey"]) == (200, False)


async def test_check_asks_as_the_gateway_would(admin: httpx.AsyncClient, upstream: Upstream, log: list[str]) -> None:
    upstream.answers["/v1/models"] = (200, b'{"data": [{"id": "gpt-5"}, {"id": "gpt-5-mini"}, {"id": 7}]}')
    models = [{"name": "big", "upstreamName": "gpt-5"}, {"name": "gone"}]
    await made(admin, baseUrl=f"{upstream.url}/v1", allowInternal=True, models=models)
    said = (await admin.post(f"{PLACE}/claude/check")).json()
    assert said["ok"] is True
    assert said["models"] == ["gpt-5", "gpt-5-mini"]
    assert "does not list gone" in said["message"]
    [(path, headers)] = upstream.asked
    assert (path, headers["authorization"]) == ("/v1/models", f"Bearer {PROVIDER_KEY}")
    upstream.answers["/v1/models"] = (401, f"wrong key {PROVIDER_KEY}".encode())
    said = (await admin.post(f"{PLACE}/claude/check")).json()
    assert (said["ok"], said["message"]) == (False, "It answers with HTTP 401: it refuses the key.")
    for status, body in ((302, b""), (200, b"<html>"), (200, b"[]"), (500, b"{}"), (200, b"x" * (9 * 2**20))):
        upstream.answers["/v1/models"] = (status, body)
        assert (await admin.post(f"{PLACE}/claude/check")).json()["ok"] is False, (status, body[:10])
    assert all(path == "/v1/models" for path, _ in upstream.asked)
    assert not any(PROVIDER_KEY in line for line in log)


async def test_check_speaks_each_kinds_language(admin: httpx.AsyncClient, upstream: Upstream) -> None:
    inside = {"allowInternal": True, "models": [{"name": "m"}]}
    await made(admin, "a", kind="anthropic", baseUrl=upstream.url, **inside)
    upstream.answers["/v1/models"] = (200, b'{"data": [{"id": "m"}]}')
    assert (await admin.post(f"{PLACE}/a/check")).json()["message"] == "It answers and lists 1 models."
    path, headers = upstream.asked.pop()
    assert (path, headers["x-api-key"], headers["anthropic-version"]) == ("/v1/models", PROVIDER_KEY, "2023-06-01")
    assert "authorization" not in headers
    await made(admin, "o", kind="ollama", baseUrl=f"{upstream.url}/v1", apiKey=None, **inside)
    assert (await admin.post(f"{PLACE}/o/check")).json()["ok"] is True
    assert [path for path, _ in upstream.asked[-2:]] == ["/api/tags", "/v1/models"]
    upstream.answers["/api/tags"] = (200, b'{"models": [{"name": "m:latest"}]}')
    assert (await admin.post(f"{PLACE}/o/check")).json()["models"] == ["m:latest"]
    assert "authorization" not in upstream.asked[-1][1]
    upstream.server.shutdown()
    upstream.server.server_close()
    said = (await admin.post(f"{PLACE}/o/check")).json()
    assert (said["ok"], said["message"]) == (False, "It cannot be reached: ConnectError.")


async def test_a_new_secret_key_reads_with_the_old_one_and_encrypts_anew_at_start(
    admin: httpx.AsyncClient,
    database: Database,
    config: ControlPlaneSettings,
    monkeypatch: pytest.MonkeyPatch,
    log: list[str],
) -> None:
    first = await made(admin)

    async def told(secret_key: str) -> list[str | None]:
        async with database.transaction() as session:
            found = await Providers(Sealer(secret_key), ServiceSeal(SERVICE_KEY)).read(session)
        return [one.sealed_key for one in found]

    [before] = await told(SECRET_KEY)
    assert await told(NEW_SECRET_KEY) == []
    monkeypatch.setenv("IMTS_SECRET_KEY", NEW_SECRET_KEY)
    monkeypatch.setenv("IMTS_OLD_SECRET_KEYS", SECRET_KEY)
    cached_settings.cache_clear()
    async with running(cached_settings()):
        for _ in range(100):
            if await told(NEW_SECRET_KEY):
                break
    assert await told(NEW_SECRET_KEY) == [before]
    lost = (await admin.get(f"{PLACE}/{first['id']}")).json()
    assert "set the key again" in lost["problem"]
    assert (await admin.post(f"{PLACE}/claude/check")).json() == {"ok": False, "message": lost["problem"], "models": []}
    async with database.transaction() as session:
        assert await keys.seal_anew(session, Sealer("y" * 40)) == (0, [lost["problem"]])
    assert not any(PROVIDER_KEY in line for line in log)
