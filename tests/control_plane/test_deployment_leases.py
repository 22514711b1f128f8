"""Who looks after what: leases, takeover, races, sleep, and what gateways are told."""

import asyncio
import time
from typing import Any

import httpx
import psycopg
import pytest

from control_plane.database import Database
from control_plane.deployments.leases import look_after
from control_plane.hints import Hints
from imts_shared.contracts.access import Role
from tests.control_plane.conftest import NewKey
from tests.control_plane.inference_side import InferenceSide, silent
from tests.control_plane.models_side import execute
from tests.control_plane.test_deployments import SMOL, deploy, shown


@pytest.fixture
def worker(url: str) -> InferenceSide:
    return InferenceSide(url)


def owners(database_url: str) -> dict[str, str | None]:
    with psycopg.connect(database_url) as connection:
        return dict(connection.execute("SELECT name, worker_id FROM deployments").fetchall())


async def test_no_deployment_is_given_twice(admin: httpx.AsyncClient, url: str, database: Database) -> None:
    """Twelve workers sync all at once, again and again, while deployments come, go, and lose their workers."""
    workers = [InferenceSide(url, f"i{n}") for n in range(12)]
    await asyncio.gather(*(one.sync() for one in workers))
    for number in range(20):
        await deploy(admin, name=f"d{number}")
    lost: list[InferenceSide] = []
    for turn in range(4):
        told = await asyncio.gather(*(one.sync() for one in workers if one not in lost))
        given = [one["id"] for answer in told for one in answer["deployments"]]
        assert len(given) == len(set(given)), "two workers were given one deployment"
        settled = await asyncio.gather(*(one.sync() for one in workers))
        given = [one["id"] for answer in settled for one in answer["deployments"]]
        assert len(given) == len(set(given)) == 20 + turn
        assert None not in owners(database.url).values()
        await deploy(admin, name=f"new{turn}")
        lost = workers[turn::4]
        for one in lost:
            silent(database.url, one.worker_id)
    assert max(len(one.wanted) for one in workers) < 20, "work is spread"


async def test_gpus_are_promised_once(admin: httpx.AsyncClient, url: str, database: Database) -> None:
    workers = [InferenceSide(url, f"i{n}", gpus=2) for n in range(3)]
    await asyncio.gather(*(admin.post("/api/deployments", json={"model": SMOL, "name": f"d{n}", "gpu": 1})
                           for n in range(9)))  # fmt: skip
    for _ in range(2):
        await asyncio.gather(*(one.sync() for one in workers))
    assert sorted(len(one.wanted) for one in workers) == [2, 2, 2]
    assert list(owners(database.url).values()).count(None) == 3


async def test_a_silent_worker_loses_its_deployments(
    admin: httpx.AsyncClient, worker: InferenceSide, url: str, database: Database
) -> None:
    told = await deploy(admin, name="d")
    await worker.run()
    execute(database.url, "UPDATE deployments SET lease_until = clock_timestamp() - interval '1 second'")
    other = InferenceSide(url, "i2")
    await other.sync()
    assert other.wanted == {}, "the api was not there for a whole lease: nobody could be heard"
    silent(database.url, "i1")
    await look_after(database, Hints(database.url))
    taken = await shown(admin, "d")
    assert (taken["workerId"], taken["state"], taken["instances"]) == ("i2", "pending", [])
    assert (await worker.served())["d"]["targets"] == []
    await other.run()
    assert (await shown(admin, "d"))["state"] == "ready"
    assert (await worker.sync())["deployments"] == [], "it is told to end what it runs"
    assert (await shown(admin, "d"))["workerId"] == "i2"
    assert [one["url"] for one in (await worker.served())["d"]["targets"]] == ["http://127.0.0.1:9100"]
    events = (await admin.get(f"/api/deployments/{told['id']}/events")).json()["items"]
    assert "Worker i1 was not heard for 20 s." in [one["data"].get("text") for one in events]


async def test_a_worker_that_comes_back_goes_on_with_what_still_runs(
    admin: httpx.AsyncClient, worker: InferenceSide, database: Database
) -> None:
    await deploy(admin, name="d")
    await worker.run()
    silent(database.url, "i1")
    await look_after(database, Hints(database.url))
    gone = await shown(admin, "d")
    assert (gone["state"], gone["reason"], gone["workerId"]) == ("pending", "no_worker", None)
    await worker.sync()
    assert (await shown(admin, "d"))["state"] == "ready"


async def test_a_clusters_worker_has_five_minutes_to_come_back(
    admin: httpx.AsyncClient, url: str, database: Database
) -> None:
    """Its engines go on meanwhile, and gateways send to them."""
    worker = InferenceSide(url, "k1", launcher="kubernetes")
    await deploy(admin, name="d", gpu=8)
    await worker.run()
    await worker.sync()
    with psycopg.connect(database.url) as connection:
        left = connection.execute("SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM deployments")
        assert 280 < left.fetchall()[0][0] <= 300
    execute(database.url, "UPDATE deployments SET lease_until = lease_until - interval '4 minutes'")
    execute(database.url, "UPDATE presence SET since = since - interval '1 hour'")
    await look_after(database, Hints(database.url))
    assert (await shown(admin, "d"))["state"] == "ready"
    assert len((await worker.served())["d"]["targets"]) == 1
    silent(database.url, "k1")
    await look_after(database, Hints(database.url))
    events = (await admin.get("/api/deployments/d/events")).json()["items"]
    assert "Worker k1 was not heard for 300 s." in [one["data"].get("text") for one in events]


async def test_a_draining_worker_hands_over(admin: httpx.AsyncClient, worker: InferenceSide, url: str) -> None:
    told = await deploy(admin, name="d")
    await worker.run()
    other = InferenceSide(url, "i2")
    await other.sync()
    worker.says["draining"] = True
    await worker.sync()
    assert list(worker.wanted) == [told["id"]]
    worker.gone(told["id"])
    await worker.sync()
    assert worker.wanted == {}
    await other.run()
    assert (await shown(admin, "d"))["workerId"] == "i2"


async def test_a_late_sync_changes_nothing_and_a_new_life_begins_anew(
    admin: httpx.AsyncClient, worker: InferenceSide
) -> None:
    told = await deploy(admin, name="d")
    await worker.run()
    line = {"deploymentId": told["id"], "revision": 1, "replica": 0, "at": "2026-01-01T00:00:00Z", "text": "x"}
    await worker.sync()
    newest = worker.batch
    worker.report(told["id"], state="failed", reason="crash_loop")
    await worker.sync(batch=newest - 1, lines=[line])
    assert (await shown(admin, "d"))["state"] == "ready"
    worker.report(told["id"], state="ready", reason=None)
    worker.says["pid"] = 2
    await worker.sync(batch=1, lines=[line])
    await worker.sync(batch=1, lines=[line])
    await worker.sync(batch=2, lines=[line])
    lines = (await admin.get("/api/deployments/d/logs")).json()["items"]
    assert len(lines) == 2


async def test_a_worker_that_comes_back_is_told_and_has_its_deployments_at_once(
    admin: httpx.AsyncClient, worker: InferenceSide
) -> None:
    told = await deploy(admin, name="d")
    await worker.run()
    worker.gone(told["id"])
    worker.says["pid"] = 2
    await worker.sync(batch=1)
    assert [one["number"] for one in worker.wanted[told["id"]]["revisions"]] == [1]
    assert (await worker.served())["d"]["state"] == "starting"
    said = (await admin.get("/api/deployments/d/events", params={"type": "message"})).json()["items"]
    assert [one["data"]["text"] for one in said] == ["Its worker was started anew, and its engines start again."]
    await worker.sync(batch=1)
    await worker.run()
    said = (await admin.get("/api/deployments/d/events", params={"type": "message"})).json()["items"]
    assert (len(said), (await shown(admin, "d"))["state"]) == (1, "ready")


async def test_reports_of_strangers_are_not_taken(admin: httpx.AsyncClient, worker: InferenceSide, url: str) -> None:
    told = await deploy(admin, name="d")
    await worker.run()
    other = InferenceSide(url, "i2")
    other.report(told["id"], state="failed", reason="crash_loop", url="http://127.0.0.1:1")
    other.report("not-an-id")
    assert (await other.sync())["deployments"] == []
    assert [one["url"] for one in (await worker.served())["d"]["targets"]] == ["http://127.0.0.1:9100"]


async def test_secrets_reach_the_worker_alone(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    for name in ("huggingface", "wandb"):
        answer = await admin.put(f"/api/projects/default/tokens/{name}", json={"value": f"hf_{'x' * 30}"})
        assert answer.status_code == 200
    told = await deploy(admin, name="d")
    await worker.sync()
    assert worker.wanted[told["id"]]["secrets"] == {"huggingface": f"hf_{'x' * 30}"}
    assert "hf_x" not in (await admin.get("/api/deployments/d")).text


def unused(database_url: str, name: str, seconds: float) -> None:
    execute(
        database_url,
        "UPDATE deployments SET busy_at = busy_at - make_interval(secs => %s) WHERE name = %s",
        seconds,
        name,
    )


async def test_sleep_and_waking(admin: httpx.AsyncClient, worker: InferenceSide, database: Database) -> None:
    told = await deploy(admin, name="d", idleSeconds=60)
    await deploy(admin, SMOL, name="always")
    await worker.run()
    for name in ("d", "always"):
        unused(database.url, name, 61)
    worker.report(told["id"], lastUsedAt="2020-01-01T00:00:00Z")
    await worker.sync()
    assert (await shown(admin, "d"))["state"] == "ready", "it was used just now, whatever the worker's clock says"
    assert (await shown(admin, "d"))["lastUsedAt"] is not None
    unused(database.url, "d", 61)
    worker.report(told["id"], metrics={"running": 1})
    await worker.sync()
    assert (await shown(admin, "d"))["state"] == "ready", "a request is running"
    unused(database.url, "d", 61)
    worker.report(told["id"], metrics={"running": 0})
    await worker.sync()
    asleep = await shown(admin, "d")
    assert (asleep["state"], asleep["reason"], asleep["replicas"]) == ("stopped", "idle", 1)
    served = (await worker.served())["d"]
    assert (served["state"], served["targets"]) == ("asleep", [])
    assert worker.wanted[told["id"]]["replicas"] == 0
    worker.gone(told["id"])
    await worker.sync()
    assert told["id"] not in worker.wanted
    assert (await worker.wake(told["id"])).status_code == 204
    assert (await worker.served())["d"]["state"] == "starting"
    await worker.run()
    assert (await worker.served())["d"]["state"] == "ready"
    await admin.post("/api/deployments/d/stop")
    assert (await worker.wake(told["id"])).status_code == 204
    assert (await shown(admin, "d"))["state"] == "stopped", "its user stopped it"
    assert (await worker.wake("7e57d004-2b97-0e7a-b45f-5387367791cd")).status_code == 404
    assert (await shown(admin, "always"))["state"] == "ready"


async def test_a_version_that_was_given_up_keeps_nobody_awake(
    admin: httpx.AsyncClient, worker: InferenceSide, database: Database
) -> None:
    told = await deploy(admin, name="d", idleSeconds=60)
    await worker.run()
    await admin.patch("/api/deployments/d", json={"engineArgs": {"max_model_len": 512}})
    await worker.sync()
    unused(database.url, "d", 61)
    await worker.sync()
    assert (await shown(admin, "d"))["state"] == "ready", "a version is coming up"
    worker.report(told["id"], 2, state="failed", reason="bad_arguments", message="No.")
    await worker.sync()
    worker.gone(told["id"], 2)
    await worker.sync()
    assert (await shown(admin, "d"))["reason"] == "idle"
    worker.gone(told["id"])
    await worker.sync()
    await worker.wake(told["id"])
    await worker.sync()
    assert [one["number"] for one in worker.wanted[told["id"]]["revisions"]] == [1]
    await worker.run()
    found = await shown(admin, "d")
    assert (found["state"], found["servingRevision"], found["error"]["code"]) == ("ready", 1, "bad_arguments")


async def test_who_waits_for_room_gets_it_from_the_longest_unused(
    admin: httpx.AsyncClient, worker: InferenceSide, database: Database
) -> None:
    for name in ("young", "old"):
        await deploy(admin, name=name, idleSeconds=3600)
    await deploy(admin, SMOL, name="always")
    await worker.run()
    hungry = await deploy(admin, name="hungry")
    await worker.sync()
    worker.report(hungry["id"], state="pending", reason="no_room", message="3 GB are needed, 1 GB is free.")
    await worker.sync()
    assert (await shown(admin, "hungry"))["reason"] == "no_room"
    assert {(await shown(admin, name))["state"] for name in ("young", "old")} == {"ready"}, "both were used just now"
    unused(database.url, "young", 100)
    unused(database.url, "old", 200)
    await worker.sync()
    await worker.sync()
    states = {name: (await shown(admin, name))["reason"] for name in ("young", "old", "always")}
    assert states == {"young": None, "old": "idle", "always": None}, "one at a time"
    worker.gone((await shown(admin, "old"))["id"])
    await worker.sync()
    worker.report(hungry["id"], state="ready", reason=None)
    await worker.sync()
    assert (await shown(admin, "young"))["state"] == "ready"


async def test_the_snapshot_is_held_until_it_differs(
    admin: httpx.AsyncClient, worker: InferenceSide, new_key: NewKey
) -> None:
    told = await deploy(admin, name="d")
    first = await worker.snapshot()
    assert (await worker.snapshot())["version"] == first["version"]
    began = time.monotonic()
    assert (await worker.snapshot(first["version"], 1.2))["version"] == first["version"]
    assert 1.1 < time.monotonic() - began < 3
    waiting = asyncio.create_task(worker.snapshot(first["version"], 20))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    began = time.monotonic()
    other = InferenceSide(str(worker.http.base_url))
    await other.run()
    newer = await waiting
    assert time.monotonic() - began < 1.5
    assert newer["version"] != first["version"]
    current = (await worker.served())["d"]
    [target] = current["targets"]
    assert (current["state"], current["deploymentId"], target["url"]) == ("ready", told["id"], "http://127.0.0.1:9100")
    other.report(told["id"], restarts=1)
    await other.sync()
    assert (await worker.served())["d"]["targets"][0]["replica"] != target["replica"], "it is another process"
    other.report(told["id"], draining=True)
    await other.sync()
    assert (await worker.served())["d"]["targets"] == []


async def test_keys_come_and_go_within_two_seconds(
    admin: httpx.AsyncClient, worker: InferenceSide, new_key: NewKey, database: Database
) -> None:
    made = (await admin.post("/api/keys", json={"name": "app", "role": "inference"})).json()
    found = await worker.snapshot()
    known = next(one for one in found["keys"] if one["id"] == made["id"])
    assert (known["role"], known["project"], len(known["sha256"])) == (Role.inference, "default", 64)
    assert made["key"] not in str(found)

    async def leaves(key_id: str) -> float:
        began = time.monotonic()
        version = found["version"]
        while time.monotonic() - began < 5:
            now: dict[str, Any] = await worker.snapshot(version, 5)
            version = now["version"]
            if key_id not in [one["id"] for one in now["keys"]]:
                return time.monotonic() - began
        raise AssertionError("the key is still there")

    watching = asyncio.create_task(leaves(made["id"]))
    await asyncio.sleep(0.2)
    assert (await admin.delete(f"/api/keys/{made['id']}")).status_code == 200
    assert await watching < 2.2
    found = await worker.snapshot()
    short = (await admin.post("/api/keys", json={"name": "short", "role": "viewer"})).json()
    found = await worker.snapshot()
    watching = asyncio.create_task(leaves(short["id"]))
    await asyncio.sleep(0.2)
    execute(
        database.url,
        "UPDATE api_keys SET expires_at = clock_timestamp() + interval '0.5 s' WHERE id = %s",
        short["id"],
    )
    assert await watching < 2.7, "an expiry comes without a hint"
