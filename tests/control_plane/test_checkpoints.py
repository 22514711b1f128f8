"""Checkpoints: noted, limited, promoted to models, freed by retention; and what takes up space."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.database import Database
from control_plane.settings import ControlPlaneSettings
from imts_shared.storage import Storage
from tests.control_plane.models_side import Maker, trashed
from tests.control_plane.test_models import add_base, maker, stranger, worker
from tests.control_plane.test_retention import upkeep
from tests.control_plane.worker_side import execute

__all__ = ["maker", "stranger", "worker"]


async def listed(client: httpx.AsyncClient, job_id: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/api/jobs/{job_id}/checkpoints")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def steps(client: httpx.AsyncClient, job_id: str) -> list[int]:
    return [checkpoint["step"] for checkpoint in await listed(client, job_id)]


async def test_checkpoints_are_listed_newest_first(
    maker: Maker, admin: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    job_id, message, claimed = await maker.started()
    assert await listed(admin, job_id) == []
    for batch, step in enumerate((5, 10), 1):
        await maker.checkpointed(message, claimed, step, batch)
    await maker.checkpointed(message, claimed, 10, 3)
    newest, older = await listed(admin, job_id)
    assert (newest["step"], newest["attempt"], newest["files"], newest["newest"], newest["modelId"]) == (
        10, 1, 2, True, None,
    )  # fmt: skip
    assert (older["step"], older["newest"]) == (5, False)
    assert newest["prefix"] == f"jobs/{job_id}/1/checkpoints/step-10"
    assert (await stranger.get(f"/api/jobs/{job_id}/checkpoints")).status_code == 404
    assert (await admin.get("/api/jobs/none/checkpoints")).status_code == 404


async def test_bad_checkpoints_are_refused(maker: Maker, admin: httpx.AsyncClient) -> None:
    job_id, message, claimed = await maker.started()
    good = {"prefix": f"{claimed['prefix']}c", "step": 1, "bytes": 1, "files": 1}
    for wrong in ({"step": "x"}, {"step": -1}, {"step": 2**63}, {"bytes": -1}, {"files": None}, {"prefix": 3}):
        event = {"type": "checkpoint", "at": datetime.now(UTC).isoformat(), "data": {**good, **wrong}}
        answer = await maker.worker.report(message, batch=1, events=[event])
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_checkpoint"), wrong
    assert await listed(admin, job_id) == []


async def test_save_total_limit_frees_older_ones_but_no_promoted_one(
    maker: Maker, admin: httpx.AsyncClient, database_url: str
) -> None:
    job_id, message, claimed = await maker.started({"saveTotalLimit": 2})
    first = await maker.checkpointed(message, claimed, 1, 1)
    assert (await admin.post(f"/api/jobs/{job_id}/checkpoints/1/promote")).status_code == 201
    second = await maker.checkpointed(message, claimed, 2, 2)
    for batch, step in enumerate((3, 4), 3):
        await maker.checkpointed(message, claimed, step, batch)
    assert await steps(admin, job_id) == [4, 3, 1]
    assert trashed(database_url) == {second}
    await maker.checkpointed(message, claimed, 2, 5)
    assert await steps(admin, job_id) == [4, 3, 2, 1], "the newest stays, whatever its step"
    assert first not in trashed(database_url)


@pytest.mark.parametrize("limit", [0, -1, True, "2", None, 2.0])
async def test_no_limit_no_freeing(maker: Maker, admin: httpx.AsyncClient, limit: object) -> None:
    job_id, message, claimed = await maker.started({"saveTotalLimit": limit})
    for step in (1, 2, 3):
        await maker.checkpointed(message, claimed, step, step)
    assert await steps(admin, job_id) == [3, 2, 1]


async def test_a_checkpoint_is_promoted_once(
    maker: Maker, admin: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    base = await add_base(admin, "house")
    job_id, message, claimed = await maker.started(modelName="house", name="faq")
    await maker.checkpointed(message, claimed, 7, 1)
    point = {"type": "metric", "at": datetime.now(UTC).isoformat(), "data": {"step": 7, "loss": 0.25}}
    await maker.worker.report(message, batch=2, events=[point])
    path = f"/api/jobs/{job_id}/checkpoints/7/promote"
    assert (await stranger.post(path)).status_code == 404
    answer = await admin.post(path, json={"name": "best"})
    model = answer.json()
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/api/models/{model['id']}"
    assert (model["name"], model["kind"], model["jobId"], model["checkpointStep"]) == ("best", "adapter", job_id, 7)
    assert (model["baseModel"], model["baseModelId"], model["files"]) == ("house", base["id"], 2)
    assert (model["details"], model["metrics"]) == ({"fromCheckpoint": True}, {"loss": 0.25})
    again = await admin.post(path)
    assert (again.status_code, again.json()) == (200, model)
    assert (await listed(admin, job_id))[0]["modelId"] == model["id"]
    assert (await admin.post("/api/models/best/verify")).json()["ok"] is True
    for body in ({"name": "a/b"}, {"nam": "x"}, {"name": 3}, []):
        assert (await admin.post(path, json=body)).status_code == 422
    unknown = await admin.post(f"/api/jobs/{job_id}/checkpoints/8/promote")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_checkpoint")
    assert "steps 7" in unknown.json()["hint"]
    for step in ("x", "-1", str(2**63)):
        assert (await admin.post(f"/api/jobs/{job_id}/checkpoints/{step}/promote")).status_code == 422


async def test_full_training_makes_whole_models_and_files_must_be_there(maker: Maker, admin: httpx.AsyncClient) -> None:
    job_id, message, claimed = await maker.started(finetuningType="full")
    prefix = await maker.checkpointed(message, claimed, 1, 1)
    await maker.checkpointed(message, claimed, 2, 2)
    assert (await admin.post(f"/api/jobs/{job_id}/checkpoints/1/promote")).json()["kind"] == "merged"
    maker.storage.delete(f"{prefix.removesuffix('1')}2/manifest.json")
    gone = await admin.post(f"/api/jobs/{job_id}/checkpoints/2/promote")
    assert (gone.status_code, gone.json()["code"]) == (409, "checkpoint_files_missing")


async def test_deleting_a_promoted_model_leaves_the_checkpoint(
    maker: Maker, admin: httpx.AsyncClient, database_url: str
) -> None:
    job_id, message, claimed = await maker.started()
    prefix = await maker.checkpointed(message, claimed, 1, 1)
    model = (await admin.post(f"/api/jobs/{job_id}/checkpoints/1/promote")).json()
    assert (await admin.delete(f"/api/models/{model['id']}")).status_code == 204
    assert prefix not in trashed(database_url)
    assert (await listed(admin, job_id))[0]["modelId"] is None


async def test_a_job_that_models_came_from_stays(
    maker: Maker, admin: httpx.AsyncClient, database: Database, config: ControlPlaneSettings, database_url: str
) -> None:
    model = await maker.made(name="kept")
    path = f"/api/jobs/{model['jobId']}"
    refused = await admin.delete(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "job_has_models")
    assert "kept@1" in refused.json()["detail"]
    execute(database_url, "UPDATE jobs SET ended_at = now() - interval '3 days'")
    chores = upkeep(database, config.model_copy(update={"keep_job_days": 2.0}))
    await chores.prune()
    assert (await admin.get(path)).status_code == 200
    assert (await admin.delete("/api/models/kept")).status_code == 204
    await chores.prune()
    assert (await admin.get(path)).status_code == 404


async def test_retention_frees_what_nobody_goes_on_from(
    maker: Maker, admin: httpx.AsyncClient, database: Database, config: ControlPlaneSettings, database_url: str
) -> None:
    jobs = {}
    for end in ("succeeded", "failed", "running"):
        job_id, message, claimed = await maker.started()
        for step in (1, 2, 3):
            await maker.checkpointed(message, claimed, step, step)
        assert (await admin.post(f"/api/jobs/{job_id}/checkpoints/1/promote")).status_code == 201
        if end != "running":
            await maker.worker.report(message, batch=4, outcome={"status": end, "reason": "bad_data"})
        jobs[end] = job_id
    chores = upkeep(database, config)
    await chores.prune()
    assert {end: await steps(admin, job_id) for end, job_id in jobs.items()} == {key: [3, 2, 1] for key in jobs}
    execute(database_url, "UPDATE jobs SET ended_at = now() - interval '31 days' WHERE ended_at IS NOT NULL")
    await chores.prune()
    assert {end: await steps(admin, job_id) for end, job_id in jobs.items()} == {
        "succeeded": [1], "failed": [3, 1], "running": [3, 2, 1],
    }  # fmt: skip
    told = (await admin.get("/api/retention")).json()["recent"]
    assert {(line["rule"], line["removed"]) for line in told} >= {("checkpoints", 3)}
    await chores.take_out_trash()
    for model in (await admin.get("/api/models")).json()["items"]:
        assert (await admin.post(f"/api/models/{model['id']}/verify")).json()["ok"] is True
    assert not list(maker.storage.list(f"jobs/{jobs['succeeded']}/1/checkpoints/step-3"))
    assert (await admin.post(f"/api/jobs/{jobs['failed']}/retry")).status_code == 200


async def test_what_takes_up_space(
    maker: Maker, admin: httpx.AsyncClient, stranger: httpx.AsyncClient, storage_folder: Path
) -> None:
    empty = {"count": 0, "bytes": 0}
    nothing = {"datasets": empty, "models": empty, "checkpoints": empty, "biggestJobs": []}
    assert (await admin.get("/api/storage")).json() == nothing
    job_id, message, claimed = await maker.started(name="big")
    for step in (1, 2):
        await maker.checkpointed(message, claimed, step, step)
    await maker.ended(message, [maker.produced(claimed)])
    use = (await admin.get("/api/storage")).json()
    assert (use["models"], use["checkpoints"]) == ({"count": 1, "bytes": 9}, {"count": 2, "bytes": 12})
    assert use["biggestJobs"] == [
        {"id": job_id, "kind": "training", "name": "big", "state": "succeeded", "checkpoints": 2, "bytes": 12}
    ]
    assert (await stranger.get("/api/storage")).json() == nothing
    assert (await admin.get("/api/storage", params={"project": "other"})).json() == nothing
    assert (await stranger.get("/api/storage", params={"project": "default"})).status_code == 404
    assert Storage(storage_folder.as_uri()).exists(f"jobs/{job_id}/1/model/manifest.json")
