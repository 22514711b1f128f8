"""Deployments over the real API: made, found, changed, stopped, deleted; who may do so, and what is refused."""

from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from control_plane.database import Database
from control_plane.settings import ControlPlaneSettings
from imts_shared.contracts.access import Role
from imts_shared.storage import Storage
from tests.control_plane.conftest import NewKey
from tests.control_plane.inference_side import InferenceSide
from tests.control_plane.models_side import Maker, execute
from tests.control_plane.worker_side import WorkerSide

TINY, SMOL = "builtin:tiny-qwen3", "builtin:smollm2-135m"


@pytest.fixture
async def maker(
    admin: httpx.AsyncClient, url: str, database: Database, config: ControlPlaneSettings, tmp_path: Path
) -> Maker:
    worker = WorkerSide(url, database)
    await worker.join(kinds=("training", "export"), slots=100)
    return Maker(admin, worker, Storage(config.storage_url), tmp_path)


@pytest.fixture
def worker(url: str) -> InferenceSide:
    return InferenceSide(url)


async def deploy(client: httpx.AsyncClient, model: str = TINY, status: int = 201, **body: Any) -> dict[str, Any]:
    answer = await client.post("/api/deployments", json={"model": model, **body})
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def shown(client: httpx.AsyncClient, named: str) -> dict[str, Any]:
    answer = await client.get(f"/api/deployments/{named}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def refused(client: httpx.AsyncClient, method: str, path: str, **body: Any) -> tuple[int, str, str | None]:
    answer = await client.request(method, path, json=body or None)
    said = answer.json()
    assert said["detail"]
    return answer.status_code, said["code"], said.get("field")


async def test_from_nothing_to_ready_and_away(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    made = await admin.post("/api/deployments", json={"model": TINY, "engineArgs": {"--max-model-len": 512}})
    assert made.status_code == 201
    told = made.json()
    assert made.headers["location"] == f"/api/deployments/{told['id']}"
    assert (told["name"], told["engine"], told["engineArgs"]) == ("tiny-qwen3", "vllm", {"max_model_len": 512})
    assert (told["state"], told["reason"], told["message"]) == (
        "pending", "no_worker", "No inference worker is there.",
    )  # fmt: skip
    answer = await worker.sync()
    [wanted] = answer["deployments"]
    assert (wanted["name"], wanted["replicas"], wanted["servingRevision"]) == ("tiny-qwen3", 1, None)
    assert wanted["revisions"][0]["model"] == {"named": TINY, "registered": None}
    assert (answer["leaseSeconds"], answer["beatSeconds"]) == (20, 1)
    progress = {"phase": "loading weights", "percent": 10.0}
    worker.report(told["id"], state="starting", progress=progress)
    await worker.sync()
    starting = await shown(admin, told["id"])
    assert (starting["state"], starting["progress"]["phase"]) == ("starting", "loading weights")
    assert starting["workerId"] == "i1"
    worker.report(told["id"], state="ready", progress=None, metrics={"running": 1}, restarts=2)
    await worker.sync()
    ready = await shown(admin, "tiny-qwen3")
    assert (ready["state"], ready["readyReplicas"], ready["servingRevision"], ready["restarts"]) == ("ready", 1, 1, 2)
    [instance] = ready["instances"]
    assert (instance["state"], instance["url"]) == ("ready", "http://127.0.0.1:9100")
    metrics = (await admin.get("/api/deployments/tiny-qwen3/metrics")).json()
    assert metrics["replicas"][0]["values"] == {"running": 1.0}
    assert (await admin.delete("/api/deployments/tiny-qwen3")).status_code == 204
    assert (await worker.sync())["deployments"] == []
    assert await refused(admin, "GET", "/api/deployments/tiny-qwen3") == (404, "unknown_deployment", "deployment")


async def test_events_and_lines(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    told = await deploy(admin)
    await worker.sync()
    line = {"deploymentId": told["id"], "revision": 1, "replica": 0, "at": "2026-01-01T00:00:00Z", "text": "hello"}
    message = {"deploymentId": told["id"], "at": "2026-01-01T00:00:00Z", "text": "installing"}
    stranger = {**line, "deploymentId": "7e57d004-2b97-0e7a-b45f-5387367791cd"}
    worker.report(told["id"], state="starting", progress={"phase": "loading weights", "percent": 1})
    await worker.sync(lines=[line, {**line, "text": "world"}, stranger], messages=[message])
    worker.report(told["id"], progress={"phase": "loading weights", "percent": 5})
    await worker.sync(lines=[line], batch=worker.batch)
    worker.report(told["id"], progress={"phase": "warming up", "percent": None})
    await worker.sync()
    path = f"/api/deployments/{told['id']}"
    lines = (await admin.get(f"{path}/logs")).json()
    assert [(one["seq"], one["text"]) for one in lines["items"]] == [(1, "hello"), (2, "world")]
    page = (await admin.get(f"{path}/logs", params={"limit": 1})).json()
    assert (page["items"][0]["text"], page["nextCursor"]) == ("hello", "1")
    assert (await admin.get(f"{path}/logs", params={"revision": 2})).json()["items"] == []
    events = (await admin.get(f"{path}/events")).json()["items"]
    assert [one["seq"] for one in events] == list(range(1, len(events) + 1))
    told_of = [(one["type"], one["data"].get("state") or one["data"].get("phase") or "") for one in events]
    assert told_of == [
        ("state", "pending"), ("state", "pending"), ("state", "pending"), ("message", ""), ("state", "starting"),
        ("progress", "loading weights"), ("progress", "warming up"),
    ]  # fmt: skip
    assert events[1]["data"]["reason"] == "no_worker"
    only = (await admin.get(f"{path}/events", params={"type": "progress", "limit": 1})).json()
    assert (len(only["items"]), only["nextCursor"]) == (1, "6")
    assert (await admin.get(f"{path}/events", params={"type": "dance"})).status_code == 422


async def test_lines_and_events_are_bounded(
    admin: httpx.AsyncClient, worker: InferenceSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.deployments.events.KEPT_LINES", 10)
    monkeypatch.setattr("control_plane.deployments.events.KEPT_EVENTS", 5)
    told = await deploy(admin)
    await worker.sync()
    line = {"deploymentId": told["id"], "revision": 1, "replica": 0, "at": "2026-01-01T00:00:00Z"}
    for start in (0, 25):
        await worker.sync(lines=[{**line, "text": str(n)} for n in range(start, start + 25)])
    kept = (await admin.get(f"/api/deployments/{told['id']}/logs")).json()["items"]
    assert [one["text"] for one in kept] == [str(n) for n in range(40, 50)]
    for _ in range(3):
        await admin.post(f"/api/deployments/{told['id']}/stop")
        await admin.post(f"/api/deployments/{told['id']}/start")
    assert len((await admin.get(f"/api/deployments/{told['id']}/events")).json()["items"]) == 5


async def test_lists_filters_and_pages(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    for number in range(3):
        await deploy(admin, name=f"d{number}", labels={"n": str(number % 2), "team": "blue"})
    await deploy(admin, SMOL, name="smol", project="other")
    await worker.run()
    await admin.post("/api/deployments/d0/stop")

    async def names(**params: Any) -> list[str]:
        return [one["name"] for one in (await admin.get("/api/deployments", params=params)).json()["items"]]

    assert await names() == ["smol", "d2", "d1", "d0"]
    assert await names(state=["stopped"]) == ["d0"]
    assert await names(state=["ready", "degraded"], project="default") == ["d2", "d1"]
    assert await names(model=SMOL) == ["smol"]
    assert await names(label=["n=0", "team=blue"]) == ["d2", "d0"]
    page = (await admin.get("/api/deployments", params={"limit": 2})).json()
    assert await names(limit=2, cursor=page["nextCursor"]) == ["d1", "d0"]


async def test_roles_and_projects_stay_apart(
    admin: httpx.AsyncClient, member: httpx.AsyncClient, url: str, new_key: NewKey
) -> None:
    told = await deploy(member, name="mine")
    await deploy(admin, name="mine", project="other")
    async with httpx.AsyncClient(base_url=url) as client:
        client.headers["Authorization"] = f"Bearer {await new_key(Role.viewer)}"
        assert (await shown(client, "mine"))["project"] == "default"
        writes = [("POST", "", {"model": TINY}), ("PATCH", "/mine", {"replicas": 2}), ("DELETE", "/mine", {}),
                  ("POST", "/mine/scale", {"replicas": 2}), ("POST", "/mine/stop", {}), ("POST", "/mine/start", {}),
                  ("POST", "/mine/adapters", {"model": "x"}), ("DELETE", "/mine/adapters/x", {})]  # fmt: skip
        for method, path, body in writes:
            assert (await refused(client, method, f"/api/deployments{path}", **body))[:2] == (403, "role_too_small")
        for path in ("load", "unload"):
            assert (await refused(client, "POST", f"/api/models/{TINY}/{path}"))[0] == 403
        client.headers["Authorization"] = f"Bearer {await new_key(Role.member, 'other')}"
        assert (await shown(client, "mine"))["project"] == "other"
        assert (await refused(client, "GET", f"/api/deployments/{told['id']}"))[0] == 404
        assert (await client.get("/api/deployments", params={"project": "default"})).status_code == 404
        client.headers["Authorization"] = f"Bearer {await new_key(Role.inference)}"
        assert (await client.get("/api/deployments")).status_code == 403
        assert (await client.post("/internal/deployments/sync", json={})).status_code == 401
        assert (await client.get("/internal/gateway/snapshot")).status_code == 401
        assert (await client.post(f"/internal/deployments/{told['id']}/wake")).status_code == 401
    assert await refused(admin, "POST", "/api/deployments/mine/stop") == (409, "ambiguous_name", "deployment")
    assert await refused(member, "POST", "/api/deployments", model=TINY, project="other") == (
        403, "other_project", "project",
    )  # fmt: skip
    assert (await refused(admin, "POST", "/api/deployments", model=TINY, project="nowhere"))[:2] == (
        404, "unknown_project",
    )  # fmt: skip


BAD_INPUT: list[tuple[dict[str, Any], tuple[int, str, str | None]]] = [
    ({"model": "nothing"}, (404, "unknown_model", "model")),
    ({"model": "builtin:tiny-qwen4"}, (404, "unknown_model", "model")),
    ({"name": "d"}, (422, "invalid_request", "model")),
    ({"model": TINY, "name": "has space"}, (422, "invalid_request", "name")),
    ({"model": TINY, "replicas": 65}, (422, "invalid_request", "replicas")),
    ({"model": TINY, "replicas": "two"}, (422, "invalid_request", "replicas")),
    ({"model": TINY, "engine": "onnx"}, (422, "invalid_request", "engine")),
    ({"model": TINY, "port": 80}, (422, "invalid_request", "port")),
    ({"model": TINY, "port": 65535, "replicas": 2}, (409, "bad_port", "port")),
    ({"model": TINY, "gpu": -1}, (422, "invalid_request", "gpu")),
    ({"model": TINY, "replicsa": 2}, (422, "invalid_request", "replicsa")),
    ({"model": TINY, "engineArgs": {"host": "0.0.0.0"}}, (422, "bad_arguments", "engineArgs.host")),
    ({"model": TINY, "engineArgs": {"--api-key": "x"}}, (422, "bad_arguments", "engineArgs.api_key")),
    ({"model": TINY, "engineArgs": {"trust-remote-code": True}},
     (422, "bad_arguments", "engineArgs.trust_remote_code")),
    ({"model": TINY, "engineArgs": {"middleware": "os.system"}}, (422, "bad_arguments", "engineArgs.middleware")),
    ({"model": TINY, "engineArgs": {"enable_lora": True}}, (422, "bad_arguments", "engineArgs.enable_lora")),
    ({"model": TINY, "engineArgs": {"a b": 1}}, (422, "bad_arguments", "engineArgs")),
    ({"model": TINY, "engine": "llamacpp"}, (409, "bad_engine", "engine")),
    ({"model": "/models/x.gguf", "engine": "vllm"}, (409, "bad_engine", "engine")),
    ({"model": TINY, "adapters": ["nothing"]}, (404, "unknown_model", "adapters.0")),
    ({"model": TINY, "idleSeconds": 1}, (422, "invalid_request", "idleSeconds")),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), BAD_INPUT, ids=[str(row[0])[:70] for row in BAD_INPUT])
async def test_bad_input(admin: httpx.AsyncClient, body: dict[str, Any], expected: tuple[int, str, str | None]) -> None:
    assert await refused(admin, "POST", "/api/deployments", **body) == expected
    assert (await admin.get("/api/deployments")).json()["items"] == [], "nothing is half registered"


async def test_names_are_had_once(admin: httpx.AsyncClient, database: Database) -> None:
    await deploy(admin)
    assert await refused(admin, "POST", "/api/deployments", model=SMOL, name="tiny-qwen3") == (
        409, "name_taken", "name",
    )  # fmt: skip
    assert (await refused(admin, "GET", "/api/deployments/tiny-qwen"))[1] == "unknown_deployment"
    said = (await admin.get("/api/deployments/tiny-qwen")).json()
    assert said["hint"] == "Did you mean 'tiny-qwen3'?"
    await admin.delete("/api/deployments/tiny-qwen3")
    await deploy(admin)


async def test_the_engine_must_be_somewhere(admin: httpx.AsyncClient, url: str) -> None:
    worker = InferenceSide(url, engines={"vllm": "installed", "llamacpp": "missing"})
    await worker.sync()
    said = await refused(admin, "POST", "/api/deployments", model="/models/x.gguf")
    assert said == (409, "engine_missing", "engine")
    assert (await deploy(admin))["state"] == "pending"


async def test_room_for_gpus(admin: httpx.AsyncClient, url: str) -> None:
    worker = InferenceSide(url, gpus=2)
    await worker.sync()
    told = await deploy(admin, name="huge", gpu=4)
    assert (told["state"], told["reason"]) == ("pending", "no_room")
    assert told["message"] == "No inference worker has 4 GPUs; the largest has 2."
    assert (await deploy(admin, name="both", gpu=2))["workerId"] == "i1"
    waits = await deploy(admin, name="more", gpu=1)
    assert (waits["workerId"], waits["reason"]) == (None, "no_room")
    assert (await deploy(admin, name="cpu", gpu=0))["workerId"] == "i1"
    await admin.delete("/api/deployments/both")
    await worker.sync()
    assert (await shown(admin, "more"))["workerId"] == "i1"


async def test_scale_stop_and_start(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    told = await deploy(admin, name="d", replicas=2)
    await worker.run()
    assert (await shown(admin, "d"))["readyReplicas"] == 2
    scaled = (await admin.post("/api/deployments/d/scale", json={"replicas": 3})).json()
    assert (scaled["state"], scaled["replicas"], scaled["readyReplicas"]) == ("degraded", 3, 2)
    assert scaled["message"] == "2 of 3 replicas are ready."
    down = (await admin.post("/api/deployments/d/scale", json={"replicas": 1})).json()
    assert (down["state"], down["readyReplicas"]) == ("ready", 1)
    none = (await admin.post("/api/deployments/d/scale", json={"replicas": 0})).json()
    assert (none["state"], none["reason"]) == ("stopped", "user_stopped")
    assert (await admin.post("/api/deployments/d/scale", json={"replicas": 2})).status_code == 200
    stopped = (await admin.post("/api/deployments/d/stop")).json()
    assert (stopped["state"], stopped["reason"]) == ("stopped", "user_stopped")
    assert worker.wanted[told["id"]]["replicas"] == 2
    for key in list(worker.replicas):
        worker.report(*key, draining=True)
    await worker.sync()
    assert worker.wanted[told["id"]]["replicas"] == 0
    assert (await shown(admin, "d"))["message"] == "2 of its replicas end their running requests."
    worker.gone(told["id"])
    await worker.sync()
    assert worker.wanted == {}, "nobody has to look after it"
    assert (await admin.post("/api/deployments/d/start")).json()["workerId"] == "i1"
    await worker.run()
    assert (await shown(admin, "d"))["state"] == "ready"
    assert (await admin.post("/api/deployments/d/start")).json()["state"] == "ready", "it runs already"


async def test_a_change_in_place_needs_no_new_version(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    await deploy(admin, name="d", idleSeconds=60, gpu=0)
    await worker.run()
    changed = (
        await admin.patch(
            "/api/deployments/d",
            json={"replicas": 2, "drainSeconds": 5, "idleSeconds": None, "labels": {"a": "b"}, "engineArgs": {}},
        )
    ).json()
    assert (changed["revision"], changed["replicas"], changed["drainSeconds"]) == (1, 2, 5)
    assert (changed["idleSeconds"], changed["labels"], changed["gpu"]) == (None, {"a": "b"}, 0)
    assert await refused(admin, "PATCH", "/api/deployments/d", name="other") == (422, "invalid_request", "name")
    assert (await refused(admin, "PATCH", "/api/deployments/d", engineArgs={"port": 1}))[1] == "bad_arguments"
    assert (await refused(admin, "PATCH", "/api/deployments/d", model="nothing"))[1] == "unknown_model"


async def test_a_new_version_takes_over_when_all_of_it_is_ready(
    admin: httpx.AsyncClient, worker: InferenceSide
) -> None:
    told = await deploy(admin, name="d", replicas=2)
    await worker.run()
    changed = (await admin.patch("/api/deployments/d", json={"engineArgs": {"max_model_len": 256}})).json()
    assert (changed["revision"], changed["servingRevision"], changed["state"]) == (2, 1, "ready")
    await worker.sync()
    wanted = worker.wanted[told["id"]]
    assert ([one["number"] for one in wanted["revisions"]], wanted["servingRevision"]) == ([1, 2], 1)
    worker.report(told["id"], 2, 0)
    worker.report(told["id"], 2, 1, state="starting")
    await worker.sync()
    assert {one["url"][-4:-1] for one in (await worker.served())["d"]["targets"]} == {"910"}
    worker.report(told["id"], 2, 1, state="ready")
    await worker.sync()
    assert [one["number"] for one in worker.wanted[told["id"]]["revisions"]] == [2]
    assert {one["url"][-4:-1] for one in (await worker.served())["d"]["targets"]} == {"920"}
    after = await shown(admin, "d")
    assert (after["servingRevision"], after["readyReplicas"], len(after["instances"])) == (2, 2, 4)
    worker.gone(told["id"], 1)
    await worker.sync()
    assert len((await shown(admin, "d"))["instances"]) == 2


async def test_a_new_version_that_fails_takes_no_traffic(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    told = await deploy(admin, name="d", engineArgs={"max_model_len": 128})
    await worker.run()
    await admin.patch("/api/deployments/d", json={"engineArgs": {"max_model_len": -3}})
    worker.report(told["id"], 2, state="failed", reason="bad_arguments", message="It must be positive.", hint="Do so.")
    await worker.sync()
    assert [one["number"] for one in worker.wanted[told["id"]]["revisions"]] == [1]
    after = await shown(admin, "d")
    assert (after["state"], after["reason"], after["revision"], after["servingRevision"]) == (
        "ready", "bad_arguments", 2, 1,
    )  # fmt: skip
    assert after["error"] == {"code": "bad_arguments", "message": "It must be positive.", "hint": "Do so."}
    assert after["engineArgs"] == {"max_model_len": 128}, "what is in force"
    worker.gone(told["id"], 2)
    await worker.sync()
    assert (await shown(admin, "d"))["error"] is not None
    changed = (await admin.patch("/api/deployments/d", json={"engineArgs": {"max_model_len": 64}})).json()
    assert (changed["revision"], changed["error"]) == (3, None)
    await worker.run()
    assert (await shown(admin, "d"))["servingRevision"] == 3


async def test_a_first_version_that_fails_is_started_anew_by_its_user(
    admin: httpx.AsyncClient, worker: InferenceSide
) -> None:
    told = await deploy(admin, name="d")
    await worker.sync()
    worker.report(told["id"], state="failed", reason="bad_model", message="model.safetensors is cut off.")
    await worker.sync()
    failed = await shown(admin, "d")
    assert (failed["state"], failed["reason"], failed["servingRevision"]) == ("failed", "bad_model", None)
    assert worker.wanted[told["id"]]["revisions"] == []
    worker.gone(told["id"])
    await worker.sync()
    assert worker.wanted == {}
    assert (await worker.served())["d"]["state"] == "failed"
    assert (await admin.post("/api/deployments/d/stop")).json()["state"] == "stopped"
    again = (await admin.post("/api/deployments/d/start")).json()
    assert (again["state"], again["revision"]) == ("pending", 2)
    await worker.run()
    assert (await shown(admin, "d"))["state"] == "ready"
    worker.report(told["id"], 2, state="failed", reason="crash_loop", message="Five ends in a row.")
    await worker.sync()
    assert (await shown(admin, "d"))["state"] == "failed"
    assert (await admin.post("/api/deployments/d/start")).json()["revision"] == 3
    await worker.run()
    assert (await shown(admin, "d"))["state"] == "ready"


async def test_a_newer_change_replaces_one_that_is_on_its_way(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    told = await deploy(admin, name="d")
    await worker.run()
    for length in (1, 2, 3):
        await admin.patch("/api/deployments/d", json={"engineArgs": {"max_model_len": length}})
    await worker.sync()
    assert [one["number"] for one in worker.wanted[told["id"]]["revisions"]] == [1, 4]
    await admin.post("/api/deployments/d/stop")
    await admin.patch("/api/deployments/d", json={"engineArgs": {"max_model_len": 9}})
    await admin.post("/api/deployments/d/start")
    await worker.sync()
    assert [one["number"] for one in worker.wanted[told["id"]]["revisions"]] == [5], "no old one comes up first"


async def test_what_does_not_fit_beside_the_old_one_is_refused(admin: httpx.AsyncClient, url: str) -> None:
    worker = InferenceSide(url, gpus=2)
    await worker.sync()
    told = await deploy(admin, name="d", gpu=2, port=9500)
    worker.report(told["id"], gpus=["0", "1"])
    await worker.sync()
    assert (await shown(admin, "d"))["state"] == "ready"
    assert await refused(admin, "PATCH", "/api/deployments/d", engineArgs={"x": 1}) == (409, "port_taken", "port")
    assert await refused(admin, "PATCH", "/api/deployments/d", gpu=1, port=9501) == (409, "no_room", "gpu")
    assert (await admin.patch("/api/deployments/d", json={"gpu": 0, "port": None})).status_code == 200
    await admin.post("/api/deployments/d/stop")
    assert (await admin.patch("/api/deployments/d", json={"gpu": 1, "port": 9500})).status_code == 200


async def test_ports_of_all_replicas_that_there_will_be_count(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    told = await deploy(admin, name="d", port=9500)
    await worker.run()
    path = "/api/deployments/d"
    assert await refused(admin, "PATCH", path, port=9501, replicas=3) == (409, "port_taken", "port")
    assert (await shown(admin, "d"))["replicas"] == 1
    worker.report(told["id"], state="failed", reason="crash_loop", message="Five ends in a row.")
    await worker.sync()
    changed = await admin.patch(path, json={"engineArgs": {"max_model_len": 512}})
    assert changed.status_code == 200, "what has failed holds no port"
    assert changed.json()["state"] != "failed"
    await worker.sync()
    worker.report(told["id"], 2, state="starting")
    await worker.sync()
    assert ((await shown(admin, "d"))["state"], (await worker.served())["d"]["state"]) == ("starting", "starting")
    worker.report(told["id"], 2, state="ready")
    await worker.sync()
    assert (await shown(admin, "d"))["servingRevision"] == 2


async def test_start_begins_a_failed_replica_anew(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    told = await deploy(admin, name="d", replicas=2)
    await worker.run()
    worker.report(told["id"], number=1, state="starting")
    await worker.sync()
    assert (await admin.post("/api/deployments/d/start")).json()["revision"] == 1, "it comes by itself"
    worker.report(told["id"], number=1, state="failed", reason="port_taken", message="Port 9501 is taken.")
    await worker.sync()
    assert (await shown(admin, "d"))["state"] == "degraded"
    assert (await admin.post("/api/deployments/d/start")).json()["revision"] == 2
    await worker.sync()
    assert [one["number"] for one in worker.wanted[told["id"]]["revisions"]] == [1, 2]
    assert len((await worker.served())["d"]["targets"]) == 1
    await worker.run()
    found = await shown(admin, "d")
    assert (found["state"], found["servingRevision"]) == ("ready", 2)


async def test_a_name_may_look_like_an_id(admin: httpx.AsyncClient, worker: InferenceSide) -> None:
    name = "11111111-1111-1111-1111-111111111111"
    told = await deploy(admin, name=name)
    assert (await shown(admin, name))["id"] == told["id"]
    assert (await admin.delete(f"/api/deployments/{name}")).is_success


async def test_a_model_that_is_deployed_stays(
    admin: httpx.AsyncClient, worker: InferenceSide, maker: Maker, database: Database
) -> None:
    base = (await admin.post("/api/models", json={"name": "base", "source": TINY})).json()
    adapter = await maker.made()
    await deploy(admin, "base", name="d", adapters=[adapter["name"]])
    await worker.run()
    for model in (base["id"], adapter["id"]):
        answer = await admin.delete(f"/api/models/{model}")
        assert (answer.status_code, answer.json()["code"]) == (409, "model_in_use")
        assert "deployed: d" in answer.json()["detail"]
    with psycopg.connect(database.url) as connection, pytest.raises(psycopg.errors.IntegrityError):
        connection.execute("DELETE FROM models WHERE id = %s", [base["id"]])
    assert (await admin.delete(f"/api/deployments/d/adapters/{adapter['name']}")).status_code == 204
    assert (await admin.delete(f"/api/models/{adapter['id']}")).status_code == 204
    await admin.patch("/api/deployments/d", json={"model": SMOL})
    assert (await admin.delete(f"/api/models/{base['id']}")).status_code == 409, "it still serves"
    await worker.run()
    assert (await admin.delete(f"/api/models/{base['id']}")).status_code == 204


async def test_the_database_refuses_nonsense(admin: httpx.AsyncClient, database: Database) -> None:
    await deploy(admin)
    for nonsense in (
        "state = 'dancing'", "reason = 'because'", "replicas = 65", "state = 'ready'", "ready_replicas = 1",
        "serving_revision = 2", "worker_id = 'w'", "stopped = true, asleep = true", "name = 'a b'", "last_seq = -1",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.CheckViolation):
            execute(database.url, f"UPDATE deployments SET {nonsense}")
