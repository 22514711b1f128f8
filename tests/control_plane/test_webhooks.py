"""Webhooks: signed, retried, listed; and where they may not lead."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import httpx
import pytest

from control_plane.database import Database
from control_plane.hints import Hints
from control_plane.settings import ControlPlaneSettings
from control_plane.watcher.deliveries import MOST_TRIES, Deliveries, pause_after
from control_plane.webhooks import signing
from imts_shared.addresses import is_internal
from tests.control_plane.test_jobs import submit
from tests.control_plane.worker_side import execute


class Receiver:
    """A real receiver that answers what it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                status = receiver.answers.pop(0) if receiver.answers else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?a=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()


@pytest.fixture
async def sending(database: Database, config: ControlPlaneSettings) -> AsyncIterator[None]:
    task = asyncio.create_task(Deliveries(database, Hints(database.url), config).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Any, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def deliveries(admin: httpx.AsyncClient, hook: dict[str, Any], **query: str) -> list[dict[str, Any]]:
    return list((await admin.get(f"/api/webhooks/{hook['id']}/deliveries", params=query)).json()["items"])


async def test_a_delivery_is_signed_so_that_the_receiver_can_tell(
    admin: httpx.AsyncClient, receiver: Receiver, sending: None
) -> None:
    made = await admin.post("/api/webhooks", json={"url": receiver.url, "states": ["queued", "stopped"]})
    assert made.status_code == 201, made.text
    hook = made.json()
    assert hook["secret"].startswith("whsec_")
    assert "secret" not in (await admin.get(f"/api/webhooks/{hook['id']}")).json()
    job = await submit(admin, labels={"team": "blue"})
    await admin.post(f"/api/jobs/{job['id']}/stop")

    async def both() -> bool:
        return len(await deliveries(admin, hook, state="delivered")) == 2

    await until(both)
    secret = base64.b64decode(hook["secret"].removeprefix("whsec_"))
    told = []
    for headers, body in receiver.got:
        content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        event = json.loads(body)
        assert event["data"]["id"] == job["id"]
        assert event["data"]["labels"] == {"team": "blue"}
        told.append(event["type"])
    assert sorted(told) == ["job.queued", "job.stopped"]
    listed = await deliveries(admin, hook)
    assert {(d["state"], d["tries"], d["lastStatus"]) for d in listed} == {("delivered", 1, 200)}


async def test_a_failing_receiver_is_tried_again_and_a_delivery_can_be_sent_anew(
    admin: httpx.AsyncClient, receiver: Receiver, sending: None, database_url: str
) -> None:
    receiver.answers = [500, 302]
    hook = (await admin.post("/api/webhooks", json={"url": receiver.url})).json()
    await admin.post(f"/api/webhooks/{hook['id']}/test")

    async def told(tries: int, status: int) -> bool:
        """Tries alone would not do: a try is counted before it is made."""
        [found] = await deliveries(admin, hook)
        return (found["tries"], found["lastStatus"]) == (tries, status)

    await until(lambda: told(1, 500))
    [first] = await deliveries(admin, hook)
    assert (first["state"], first["lastError"]) == ("pending", "HTTP 500")
    assert first["nextTryAt"]
    execute(database_url, "UPDATE webhook_deliveries SET next_try_at = clock_timestamp()")
    await until(lambda: told(2, 302))
    execute(database_url, "UPDATE webhook_deliveries SET next_try_at = clock_timestamp()")

    async def delivered() -> bool:
        return bool(await deliveries(admin, hook, state="delivered"))

    await until(delivered)
    ids = {headers["webhook-id"] for headers, _ in receiver.got}
    assert len(ids) == 1, "one delivery keeps its id, so that a receiver can tell a repetition"
    again = await admin.post(f"/api/webhooks/{hook['id']}/deliveries/{first['id']}/redeliver")
    assert again.status_code == 202

    async def fourth() -> bool:
        return len(receiver.got) == 4

    await until(fourth)
    assert (await admin.delete(f"/api/webhooks/{hook['id']}")).status_code == 204
    assert (await admin.get(f"/api/webhooks/{hook['id']}/deliveries")).status_code == 404


async def test_after_many_tries_it_is_given_up(admin: httpx.AsyncClient, sending: None, database_url: str) -> None:
    hook = (await admin.post("/api/webhooks", json={"url": "http://127.0.0.1:9/"})).json()
    await admin.post(f"/api/webhooks/{hook['id']}/test")
    execute(database_url, "UPDATE webhook_deliveries SET tries = %s, next_try_at = clock_timestamp()", MOST_TRIES - 1)

    async def failed() -> bool:
        return bool(await deliveries(admin, hook, state="failed"))

    await until(failed)
    assert "Connect" in (await deliveries(admin, hook))[0]["lastError"]


def test_pauses_grow_and_stay_bounded() -> None:
    assert 4 < pause_after(1) < 6
    assert pause_after(5) > 60
    assert pause_after(40) < 7 * 3600


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/x",
        "http://localhost:1/",
        "http://[::1]/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
    ],
)
async def test_a_members_webhook_may_not_lead_inside(member: httpx.AsyncClient, address: str) -> None:
    answer = await member.post("/api/webhooks", json={"url": address})
    assert (answer.status_code, answer.json()["code"]) == (403, "internal_address"), answer.text
    assert answer.json()["field"] == "url"


@pytest.mark.parametrize(
    "address",
    ["ftp://x/", "https://user:pw@example.com/", "http://x:99999/", "http://a b/", "http://", "javascript:alert(1)"],
)
async def test_odd_addresses_are_refused(admin: httpx.AsyncClient, address: str) -> None:
    assert (await admin.post("/api/webhooks", json={"url": address})).status_code == 422


def test_internal_addresses() -> None:
    assert all(
        map(is_internal, ["127.0.0.1", "::1", "fe80::1%eth0", "fd00::1", "100.64.0.1", "::ffff:10.0.0.1", "224.0.0.1"])
    )
    assert not any(map(is_internal, ["8.8.8.8", "2606:4700::1111"]))


def test_signature_by_hand() -> None:
    headers = signing.headers(b"secret", "m.1", 1700000000, b"{}")
    by_hand = base64.b64encode(hmac.new(b"secret", b"m.1.1700000000.{}", hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{by_hand}"
    one, other = UUID(int=1), UUID(int=2)
    assert signing.secret_of("k" * 32, one) != signing.secret_of("k" * 32, other)
