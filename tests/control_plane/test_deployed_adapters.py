"""Adapters in deployments, models loaded and unloaded, and what a training job's `deploy` does."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.database import Database
from control_plane.settings import ControlPlaneSettings
from imts_shared.storage import Storage
from tests.control_plane.inference_side import InferenceSide
from tests.control_plane.models_side import Maker
from tests.control_plane.test_deployments import SMOL, TINY, deploy, refused, shown
from tests.control_plane.worker_side import WorkerSide


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


async def test_a_base_with_many_adapters_is_one_engine(
    admin: httpx.AsyncClient, worker: InferenceSide, maker: Maker
) -> None:
    first, second = [await maker.made(outputName=name) for name in ("first", "second")]
    told = await deploy(admin, "first", name="tuned")
    assert (told["name"], told["model"], told["adapters"][0]["name"]) == ("tiny-qwen3", TINY, "tuned")
    await worker.sync()
    [wanted] = worker.wanted[told["id"]]["adapters"]
    assert (wanted["name"], wanted["model"]["registered"]["id"]) == ("tuned", first["id"])
    assert wanted["model"]["registered"]["prefix"].endswith("/model")
    await worker.run()
    joined = await deploy(admin, "second", 200)
    assert joined["id"] == told["id"]
    assert [one["state"] for one in joined["adapters"]] == ["loaded", "pending"]
    served = await worker.served()
    assert {name: one["state"] for name, one in served.items()} == {
        "tiny-qwen3": "ready", "tuned": "ready", "second": "starting",
    }  # fmt: skip
    await worker.run()
    assert (await worker.served())["second"]["targets"] == (await worker.served())["tiny-qwen3"]["targets"]
    assert (await shown(admin, "second"))["adapters"][1]["seconds"] == 0.1
    assert await deploy(admin, second["id"], 200)
    assert await refused(admin, "DELETE", "/api/deployments/second") == (409, "is_adapter", "deployment")
    own = await deploy(admin, "second", name="apart", engineArgs={"max_model_len": 64})
    assert (own["name"], own["id"] != told["id"]) == ("tiny-qwen3-2", True)
    removed = await admin.delete("/api/deployments/tiny-qwen3/adapters/second")
    assert removed.status_code == 204
    assert "second" not in await worker.served()
    assert await refused(admin, "DELETE", "/api/deployments/tiny-qwen3/adapters/second") == (
        404, "unknown_adapter", "name",
    )  # fmt: skip
    added = await admin.post("/api/deployments/tiny-qwen3/adapters", json={"model": second["id"], "name": "again"})
    assert added.status_code == 201
    again = await admin.post("/api/deployments/tiny-qwen3/adapters", json={"model": second["id"], "name": "again"})
    assert again.status_code == 200
    for taken in ("tuned", "tiny-qwen3"):
        assert await refused(
            admin, "POST", "/api/deployments/tiny-qwen3/adapters", model=second["id"], name=taken
        ) == (409, "name_taken", "name")  # fmt: skip
    kinds = [one for one in (await admin.get(f"/api/deployments/{told['id']}/events")).json()["items"]
             if one["type"] == "adapter" and one["data"]["name"] == "tuned"]  # fmt: skip
    assert [one["data"]["state"] for one in kinds] == ["pending", "loaded"]


async def test_a_failed_adapter_harms_nobody(admin: httpx.AsyncClient, worker: InferenceSide, maker: Maker) -> None:
    await maker.made(outputName="first")
    told = await deploy(admin, "first")
    await worker.run()
    worker.report(told["id"], adapters=[{"name": "first", "state": "failed", "message": "Its rank is 900."}])
    await worker.sync()
    after = await shown(admin, told["id"])
    assert (after["state"], after["adapters"][0]["state"]) == ("ready", "failed")
    served = await worker.served()
    assert (served["first"]["state"], served["first"]["message"]) == ("failed", "Its rank is 900.")
    assert served["tiny-qwen3"]["state"] == "ready"


async def test_adapters_that_cannot_be(admin: httpx.AsyncClient, maker: Maker) -> None:
    tiny = await maker.made(outputName="tiny-tuned")
    smol = await maker.made(outputName="smol-tuned", modelName=SMOL)
    stacked = await maker.made(outputName="stacked", modelName="tiny-tuned")
    scorer = await maker.made(outputName="scorer", spec={"stage": "rm"})
    gguf = await maker.made(outputName="file", fields={"kind": "gguf"})
    path = "/api/deployments"
    await deploy(admin, SMOL, name="smol")
    said = await admin.post(f"{path}/smol/adapters", json={"model": tiny["id"]})
    assert (said.status_code, said.json()["code"]) == (422, "bad_adapter")
    assert TINY in said.json()["detail"]
    assert SMOL in said.json()["detail"]
    for body, expected in [
        ({"model": SMOL, "name": "x", "adapters": ["tiny-tuned"]}, (422, "bad_adapter", "adapters.0")),
        ({"model": SMOL, "name": "x", "adapters": [gguf["id"]]}, (409, "bad_adapter", "adapters.0")),
        ({"model": SMOL, "name": "x", "adapters": ["smol-tuned", smol["id"]]}, (422, "name_twice", "adapters.1")),
        ({"model": SMOL, "name": "smol-tuned", "adapters": ["smol-tuned"]}, (422, "name_twice", "name")),
        ({"model": SMOL, "name": "x", "adapters": [{"model": "smol-tuned", "name": "smol"}]},
         (409, "name_taken", "adapters.0")),
        ({"model": "stacked"}, (422, "bad_adapter", "model")),
        ({"model": stacked["id"]}, (422, "bad_adapter", "model")),
        ({"model": "scorer"}, (422, "bad_model", "model")),
        ({"model": scorer["id"]}, (422, "bad_model", "model")),
        ({"model": "file", "engine": "vllm"}, (409, "bad_engine", "engine")),
        ({"model": "file", "adapters": ["tiny-tuned"]}, (422, "bad_adapter", "adapters.0")),
        ({"model": "tiny-tuned", "engine": "llamacpp"}, (422, "bad_adapter", "engine")),
    ]:  # fmt: skip
        assert await refused(admin, "POST", path, **body) == expected, body
    assert [one["name"] for one in (await admin.get(path)).json()["items"]] == ["smol"], "nothing is half registered"
    assert (await deploy(admin, "file"))["engine"] == "llamacpp"
    assert await refused(admin, "POST", f"{path}/file/adapters", model="tiny-tuned") == (422, "bad_adapter", "model")
    await admin.post(f"{path}/smol/adapters", json={"model": "smol-tuned"})
    assert await refused(admin, "PATCH", f"{path}/smol", model=TINY) == (422, "bad_adapter", "model")
    assert await refused(admin, "PATCH", f"{path}/smol", model="smol-tuned") == (422, "bad_adapter", "model")
    changed = await admin.patch(f"{path}/smol", json={"model": TINY, "adapters": [{"model": "tiny-tuned"}]})
    assert [one["name"] for one in changed.json()["adapters"]] == ["tiny-tuned"]


async def test_an_adapter_joins_only_what_is_as_it_was_asked_for(admin: httpx.AsyncClient, maker: Maker) -> None:
    await maker.made(outputName="tuned")
    base = await deploy(admin, TINY, name="base", drainSeconds=9)
    for number, asked in enumerate(({"replicas": 2}, {"labels": {"a": "b"}}, {"launcher": "kubernetes"})):
        own = await deploy(admin, "tuned", name=f"own-{number}", **asked)
        assert own["id"] != base["id"], asked
        await admin.delete(f"/api/deployments/{own['id']}")
    joined = await admin.post("/api/deployments", json={"model": "tuned", "name": "joined", "drainSeconds": 9})
    assert (joined.status_code, joined.json()["id"]) == (200, base["id"])


async def test_a_registered_base_is_the_model_that_it_names(admin: httpx.AsyncClient, maker: Maker) -> None:
    base = (await admin.post("/api/models", json={"name": "mine", "source": TINY})).json()
    await maker.made(outputName="on-registered", modelName="mine")
    await maker.made(outputName="on-builtin")
    told = await deploy(admin, TINY, adapters=["on-registered", "on-builtin"])
    assert len(told["adapters"]) == 2
    await admin.delete(f"/api/deployments/{told['id']}")
    alone = await deploy(admin, "on-registered")
    assert (alone["name"], alone["model"], alone["modelId"]) == ("mine", base["id"], base["id"])


async def test_models_are_loaded_and_unloaded(admin: httpx.AsyncClient, worker: InferenceSide, maker: Maker) -> None:
    path = f"/api/models/{TINY}"
    assert (await admin.get(f"{path}/status")).json() == {
        "model": TINY, "modelId": None, "loaded": False, "state": None, "message": None, "name": None,
        "deployment": None,
    }  # fmt: skip
    assert await refused(admin, "POST", f"{path}/unload") == (409, "model_not_loaded", "model")
    made = await admin.post(f"{path}/load")
    assert (made.status_code, made.json()["name"]) == (201, "tiny-qwen3")
    await worker.run()
    status = (await admin.get(f"{path}/status")).json()
    assert (status["loaded"], status["state"], status["name"]) == (True, "ready", "tiny-qwen3")
    assert status["deployment"]["id"] == made.json()["id"]
    adapter = await maker.made(outputName="tuned")
    assert (await admin.post(f"/api/models/{adapter['id']}/load")).status_code == 200
    assert (await admin.get("/api/models/tuned/status")).json()["state"] == "starting"
    await worker.run()
    assert (await admin.get("/api/models/tuned/status")).json()["loaded"] is True
    assert (await admin.post("/api/models/tuned/unload")).json()["adapters"] == []
    assert (await admin.get("/api/models/tuned/status")).json()["loaded"] is False
    assert (await admin.post(f"{path}/unload")).json()["state"] == "stopped"
    again = await admin.post(f"{path}/load")
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
    assert (await refused(admin, "GET", "/api/models/nothing/status"))[:2] == (404, "unknown_model")
    for hub_id in ("acme/small-1b", "acme%2Fsmall-1b"):
        assert (await admin.get(f"/api/models/{hub_id}/status")).json()["model"] == "acme/small-1b"
    assert (await admin.post("/api/models/acme/small-1b/load")).json()["model"] == "acme/small-1b"
    assert (await admin.post("/api/models/acme/small-1b/unload")).json()["state"] == "stopped"


async def trained(maker: Maker, **body: Any) -> tuple[dict[str, Any], list[str]]:
    """The finished job, and what was said at it."""
    job_id, message, claimed = await maker.started(**body)

    answer = await maker.ended(message, [maker.produced(claimed)])
    assert answer.status_code == 200, answer.text
    job = (await maker.client.get(f"/api/jobs/{job_id}")).json()
    events = (await maker.client.get(f"/api/jobs/{job_id}/events", params={"type": "message"})).json()["items"]
    return job, [one["data"]["text"] for one in events]


async def test_a_job_deploys_what_it_made(admin: httpx.AsyncClient, worker: InferenceSide, maker: Maker) -> None:
    job, said = await trained(maker, outputName="bot", deploy=True)
    assert job["state"] == "succeeded"
    assert said == ["Deployment 'tiny-qwen3' was made: what was trained answers there under the name 'bot'."]
    await worker.run()
    assert (await worker.served())["bot"]["state"] == "ready"
    newer, said = await trained(maker, outputName="bot", deploy=True)
    assert said == ["Deployment 'tiny-qwen3' serves what was trained under the name 'bot'."]
    [adapter] = (await shown(admin, "tiny-qwen3"))["adapters"]
    assert (adapter["modelId"], adapter["state"]) == (newer["result"]["models"][0]["id"], "pending")
    await worker.sync()
    assert (await shown(admin, "bot"))["adapters"][0]["state"] == "pending", "the old one is loaded still"
    await worker.run()
    assert (await shown(admin, "bot"))["adapters"][0]["state"] == "loaded"
    _, said = await trained(maker, outputName="bot", deploy={"deployment": "tiny-qwen3", "name": "canary"})
    assert said == ["Deployment 'tiny-qwen3' serves what was trained as soon as it is loaded."]
    assert [one["name"] for one in (await shown(admin, "canary"))["adapters"]] == ["bot", "canary"]


async def test_who_watches_such_a_job_sees_it_end(admin: httpx.AsyncClient, maker: Maker) -> None:
    job_id, message, claimed = await maker.started(outputName="bot", deploy=True)

    async def watch() -> list[str]:
        async with admin.stream("GET", f"/api/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as stream:
            return [line async for line in stream.aiter_lines() if line.startswith("event: ")]

    watching = asyncio.create_task(watch())
    await maker.ended(message, [maker.produced(claimed)])
    assert (await asyncio.wait_for(watching, 20))[-3:] == ["event: state", "event: message", "event: end"]


async def test_a_deployment_that_cannot_be_fails_no_job(admin: httpx.AsyncClient, maker: Maker) -> None:
    job, [said] = await trained(maker, outputName="bot", deploy={"deployment": "nowhere"})
    assert job["state"] == "succeeded"
    assert said.startswith("The model was not deployed: There is no deployment 'nowhere' here.")
    await deploy(admin, SMOL, name="smol")
    job, [said] = await trained(maker, outputName="bot", deploy={"deployment": "smol"})
    assert job["result"]["models"][0]["name"] == "bot"
    assert "stands on 'builtin:tiny-qwen3', but the deployment serves 'builtin:smollm2-135m'" in said
    assert (await shown(admin, "smol"))["adapters"] == []
    _, [said] = await trained(maker, outputName="smol", deploy=True)
    assert "'smol' is the name of a deployment of project 'default' already." in said
    assert [one["name"] for one in (await admin.get("/api/deployments")).json()["items"]] == ["smol"]
    answer = await admin.post("/api/training/jobs", json={"modelName": TINY, "dataset": "alpaca_en_demo",
                                                          "deploy": {"nmae": "x"}})  # fmt: skip
    assert answer.status_code == 422
    answer = await admin.post("/api/training/sweeps", json={
        "base": {"modelName": TINY, "dataset": "alpaca_en_demo", "deploy": True},
        "parameters": {"learningRate": {"values": [1e-3]}},
    })  # fmt: skip
    assert (answer.status_code, answer.json()["field"]) == (422, "base.deploy")


async def test_a_model_trained_in_full_replaces_the_older_one(
    admin: httpx.AsyncClient, worker: InferenceSide, maker: Maker
) -> None:
    async def full() -> dict[str, Any]:
        job_id, message, claimed = await maker.started(outputName="whole", deploy=True)
        answer = await maker.ended(message, [maker.produced(claimed, kind="merged")])
        assert answer.status_code == 200, answer.text
        [model] = (await admin.get(f"/api/jobs/{job_id}")).json()["result"]["models"]
        return model

    first = await full()
    await worker.run()
    assert (await shown(admin, "whole"))["modelId"] == first["id"]
    second = await full()
    after = await shown(admin, "whole")
    assert (after["revision"], after["servingRevision"], after["modelId"]) == (2, 1, second["id"])
    await worker.run()
    assert (await shown(admin, "whole"))["servingRevision"] == 2
