"""Jobs over REST: submitted, found, ordered about, cloned, deleted."""

import asyncio
from typing import Any

import httpx
import pytest

from control_plane.database import Database
from control_plane.settings import ControlPlaneSettings
from tests.control_plane.worker_side import WorkerSide

TRAINING = {
    "modelName": "meta-llama/Llama-3-8b",
    "dataset": "alpaca_en_demo",
    "stage": "sft",
    "finetuningType": "lora",
    "batchSize": 2,
    "learningRate": 5e-5,
    "epochs": 3.0,
}


SMALLEST: dict[str, dict[str, Any]] = {"training": TRAINING, "export": {"modelName": "org/model"}}


async def submit(client: httpx.AsyncClient, kind: str = "training", **body: Any) -> dict[str, Any]:
    answer = await client.post(f"/api/{kind}/jobs", json={**SMALLEST.get(kind, {}), **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
async def worker(url: str, database: Database) -> WorkerSide:
    return WorkerSide(url, database)


async def test_the_platform_documents_training_body_works_as_written(admin: httpx.AsyncClient) -> None:
    job = await submit(admin)
    assert job["state"] == "queued"
    assert job["kind"] == "training"
    assert job["attempt"] == 0
    assert job["queuePosition"] == 1
    assert job["waitingFor"]["code"] == "no_worker"
    assert job["spec"].items() >= TRAINING.items()
    assert [(one["name"], one["version"]) for one in job["spec"]["datasets"]] == [("alpaca_en_demo", 1)]
    assert "did not answer" in job["spec"]["warnings"][0]
    demo = (await admin.get("/api/datasets/alpaca_en_demo")).json()
    assert (demo["format"], demo["badRows"]) == ("alpaca", 0)
    assert demo["rows"] > 100
    shown = (await admin.get(f"/api/training/jobs/{job['id']}")).json()
    assert shown == job
    assert (await admin.get(f"/api/jobs/{job['id']}")).json()["id"] == job["id"]
    events = (await admin.get(f"/api/jobs/{job['id']}/events")).json()["items"]
    assert [(e["seq"], e["type"], e["data"]["state"]) for e in events] == [(1, "state", "queued")]


@pytest.mark.parametrize("kind", ["training", "evaluation", "export"])
async def test_every_kind_goes_through_one_lifecycle(admin: httpx.AsyncClient, kind: str) -> None:
    job = await submit(admin, kind)
    path = f"/api/{kind}/jobs/{job['id']}"
    assert (await admin.post(f"{path}/pause")).json()["state"] == "paused"
    assert (await admin.post(f"{path}/pause")).json()["state"] == "paused"
    assert (await admin.post(f"{path}/resume")).json()["state"] == "queued"
    stopped = (await admin.post(f"{path}/stop")).json()
    assert (stopped["state"], stopped["reason"]) == ("stopped", "user_stopped")
    assert stopped["endedAt"]
    assert (await admin.post(f"{path}/stop")).status_code == 200
    assert (await admin.post(f"{path}/resume")).json()["code"] == "job_ended"
    assert (await admin.post(f"{path}/retry")).json()["state"] == "queued"
    clone = await admin.post(f"{path}/clone")
    assert clone.status_code == 201
    assert clone.json()["cloneOf"] == job["id"]
    assert (await admin.delete(path)).json()["code"] == "job_not_ended"
    await admin.post(f"{path}/stop")
    assert (await admin.delete(path)).status_code == 204
    assert (await admin.get(path)).status_code == 404
    other = "export" if kind != "export" else "training"
    assert (await admin.get(f"/api/{other}/jobs/{clone.json()['id']}")).status_code == 404


async def test_snake_case_is_taken_too(admin: httpx.AsyncClient) -> None:
    answer = await admin.post(
        "/api/training/jobs", json={"model_name": "org/m", "dataset": "alpaca_en_demo", "batch_size": 4}
    )
    assert answer.json()["spec"]["batchSize"] == 4


async def test_unknown_fields_are_refused_with_the_nearest_name(admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/api/training/jobs", json={**TRAINING, "learningRat": 1})
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["code"], problem["field"]) == ("invalid_request", "learningRat")
    assert "learningRate" in problem["hint"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"modelName": "\\u0000", "dataset": "alpaca_en_demo"}', 422, "nul_character"),
        (b'{"modelName": "\\ud800", "dataset": "alpaca_en_demo"}', 400, "invalid_json"),
        (b'{"modelName": "\xff", "dataset": "alpaca_en_demo"}', 400, "invalid_json"),
        (b'{"modelName": "m", "dataset": "d", "epochs": NaN}', 400, "invalid_json"),
        (b'{"modelName": "m", "dataset": "d", "priority": 101}', 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b"", 422, "invalid_request"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b'"' + b"a" * 11_000_000 + b'"', 413, "body_too_large"),
    ],
)
async def test_bad_bodies_are_named_and_store_nothing(
    admin: httpx.AsyncClient, body: bytes, status: int, code: str
) -> None:
    answer = await admin.post("/api/training/jobs", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert (await admin.get("/api/jobs")).json()["items"] == []


async def test_a_backslash_before_u0000_is_not_a_nul(admin: httpx.AsyncClient) -> None:
    body = b'{"modelName": "org/\\\\u0000", "dataset": "alpaca_en_demo"}'
    answer = await admin.post("/api/training/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["spec"]["modelName"] == "org/\\u0000"


async def test_idempotency_key_makes_one_job_even_at_once(admin: httpx.AsyncClient) -> None:
    send = {"json": TRAINING, "headers": {"Idempotency-Key": "k1"}}
    answers = await asyncio.gather(*(admin.post("/api/training/jobs", **send) for _ in range(20)))  # type: ignore[arg-type]
    assert len({a.json()["id"] for a in answers}) == 1
    assert sorted(a.status_code for a in answers) == [200] * 19 + [201]
    other = await admin.post("/api/training/jobs", json={**TRAINING, "epochs": 4}, headers={"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert len((await admin.get("/api/jobs")).json()["items"]) == 1


async def test_lists_filter_and_page_stably_under_inserts(admin: httpx.AsyncClient) -> None:
    made = [
        (await submit(admin, name=f"run-{n} lora", labels={"team": "blue" if n % 2 else "red"}))["id"] for n in range(7)
    ]
    seen: list[str] = []
    cursor = None
    while True:
        page = (await admin.get("/api/jobs", params={"limit": 3, **({"cursor": cursor} if cursor else {})})).json()
        seen += [item["id"] for item in page["items"]]
        await submit(admin, name="later")
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == made[::-1]

    async def ids(**query: Any) -> list[str]:
        items = (await admin.get("/api/training/jobs", params=query)).json()["items"]
        return [item["id"] for item in items]

    assert await ids(label="team=blue", text="lora") == [i for n, i in enumerate(made) if n % 2][::-1]
    assert await ids(text="run-3") == [made[3]]
    assert await ids(text="RUN lor", label="team=red") == [i for n, i in enumerate(made) if not n % 2][::-1]
    assert await ids(text="nothing-like-it") == []
    await admin.post(f"/api/jobs/{made[0]}/stop")
    assert await ids(state="stopped") == [made[0]]
    assert (await admin.get("/api/jobs", params={"kind": "export"})).json()["items"] == []
    assert (await admin.get("/api/jobs", params={"cursor": "x"})).json()["field"] == "cursor"
    assert (await admin.get("/api/jobs", params={"label": "x"})).json()["field"] == "label"
    assert (await admin.get("/api/jobs", params={"text": "a\x00b"})).status_code == 422
    assert (await admin.get("/api/jobs", params={"state": "gone"})).status_code == 422


async def test_queue_positions_follow_priority_and_fair_share(
    admin: httpx.AsyncClient, member: httpx.AsyncClient
) -> None:
    first = await submit(admin)
    second = await submit(admin)
    assert [first["queuePosition"], second["queuePosition"]] == [1, 2]
    urgent = await submit(admin, priority=10)
    assert urgent["queuePosition"] == 1
    theirs = await submit(admin, project="other")
    shown = {
        name: (await admin.get(f"/api/jobs/{job['id']}")).json()["queuePosition"]
        for name, job in {"urgent": urgent, "first": first, "second": second, "theirs": theirs}.items()
    }
    assert shown == {"urgent": 1, "theirs": 2, "first": 3, "second": 4}


async def test_quotas_hold(admin: httpx.AsyncClient, worker: WorkerSide) -> None:
    answer = await admin.patch("/api/projects/default", json={"maxQueuedJobs": 2, "maxRunningJobs": 1})
    assert answer.status_code == 200
    answers = await asyncio.gather(*(admin.post("/api/training/jobs", json=TRAINING) for _ in range(6)))
    assert sorted(a.status_code for a in answers) == [201, 201, 429, 429, 429, 429]
    refused = next(a for a in answers if a.status_code == 429)
    assert refused.json()["code"] == "queue_quota_exceeded"
    await worker.join(kinds=("training",), slots=4)
    assert len(await worker.dispatch()) == 1
    assert await worker.dispatch() == []
    waiting = (await admin.get("/api/jobs", params={"state": "queued"})).json()["items"][0]
    assert waiting["waitingFor"]["code"] == "quota"
    await admin.patch("/api/projects/default", json={"maxRunningJobs": None})
    assert len(await worker.dispatch()) == 1
    assert (await admin.get("/api/projects")).json()["items"][0]["maxQueuedJobs"] == 2


async def test_unknown_ids_are_404_and_never_500(admin: httpx.AsyncClient) -> None:
    for path in ("nope", "00000000-0000-0000-0000-000000000000", "%00", "a" * 3000):
        for suffix in ("", "/events", "/logs", "/metrics"):
            assert (await admin.get(f"/api/jobs/{path}{suffix}")).status_code == 404
        assert (await admin.post(f"/api/jobs/{path}/stop")).status_code == 404


def test_settings_reach_the_job_rules(config: ControlPlaneSettings) -> None:
    assert config.beat_seconds <= 2
