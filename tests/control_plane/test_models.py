"""Models: registered by what attempts report, found, verified, resolved for jobs, protected and deleted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from control_plane.database import Database
from imts_shared.contracts.access import Role
from imts_shared.storage import Storage
from tests.control_plane.conftest import NewKey
from tests.control_plane.models_side import Maker, trashed
from tests.control_plane.test_jobs import TRAINING
from tests.control_plane.worker_side import WorkerSide


@pytest.fixture
async def worker(url: str, database: Database) -> WorkerSide:
    side = WorkerSide(url, database)
    await side.join(kinds=("training", "evaluation", "export"), slots=50)
    return side


@pytest.fixture
def maker(admin: httpx.AsyncClient, worker: WorkerSide, storage_folder: Path, tmp_path: Path) -> Maker:
    return Maker(admin, worker, Storage(storage_folder.as_uri()), tmp_path / "made")


@pytest.fixture
async def stranger(url: str, new_key: NewKey) -> AsyncIterator[httpx.AsyncClient]:
    """A member of another project."""
    headers = {"Authorization": f"Bearer {await new_key(Role.member, 'other')}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as client:
        yield client


async def add_base(client: httpx.AsyncClient, name: str = "house", **body: Any) -> dict[str, Any]:
    answer = await client.post("/api/models", json={"name": name, "source": "builtin:tiny-qwen3", **body})
    assert answer.status_code == 201, answer.text
    model: dict[str, Any] = answer.json()
    return model


async def test_what_a_succeeded_attempt_reports_is_registered(maker: Maker, admin: httpx.AsyncClient) -> None:
    job_id, message, claimed = await maker.started(name="faq bot / v1")
    files = maker.produced(claimed, metrics={"eval_loss": 0.5, "x": None}, details={"rank": 8}, card="# Card")
    merged = maker.produced(claimed, "merged", kind="merged", name="whole")
    assert (await maker.ended(message, [files, merged])).status_code == 200
    result = (await admin.get(f"/api/jobs/{job_id}")).json()["result"]
    assert result["loss"] == 1.0
    first, second = result["models"]
    assert first == {"id": first["id"], "name": "faq-bot-v1", "version": 1, "kind": "adapter", "bytes": files["bytes"]}
    assert second["name"] == "whole"
    model = (await admin.get("/api/models/faq-bot-v1")).json()
    assert model == (await admin.get(f"/api/models/{first['id']}")).json()
    assert model == (await admin.get("/api/models/faq-bot-v1@1")).json()
    assert (model["jobId"], model["baseModel"], model["baseModelId"]) == (job_id, "builtin:tiny-qwen3", None)
    assert (model["metrics"], model["details"]) == ({"eval_loss": 0.5, "x": None}, {"rank": 8})
    assert (model["files"], model["sha256"]) == (2, files["sha256"])
    card = await admin.get("/api/models/faq-bot-v1/card")
    assert card.headers["content-type"] == "text/markdown; charset=utf-8"
    assert card.text == "# Card"
    assert (await admin.get("/api/models/whole/card")).text.startswith("# whole")


async def test_names_and_versions(maker: Maker) -> None:
    named = await maker.made({"outputName": "out"}, name="job")
    assert (named["name"], named["version"]) == ("out", 1)
    again = await maker.made({"outputName": "out"})
    assert (again["name"], again["version"]) == ("out", 2)
    plain = await maker.made(modelName="org/Base.Model")
    assert plain["name"] == f"Base.Model-sft-{plain['jobId'][:8]}"
    odd = await maker.made(name="ü///")
    assert odd["name"] == f"tiny-qwen3-sft-{odd['jobId'][:8]}"
    long = await maker.made(name="x" * 150)
    assert long["name"] == "x" * 100


async def test_versions_of_one_name_made_at_once_are_all_there(maker: Maker, admin: httpx.AsyncClient) -> None:
    running = [await maker.started(name="same") for _ in range(6)]
    answers = await asyncio.gather(*(maker.ended(message, [maker.produced(c)]) for _, message, c in running))
    assert {answer.status_code for answer in answers} == {200}
    items = (await admin.get("/api/models", params={"text": "same"})).json()["items"]
    assert sorted(model["version"] for model in items) == [1, 2, 3, 4, 5, 6]


async def test_a_stopped_attempt_may_leave_a_model_but_a_paused_or_failed_one_does_not(
    maker: Maker, admin: httpx.AsyncClient
) -> None:
    job_id, message, claimed = await maker.started(name="stopped")
    await admin.post(f"/api/jobs/{job_id}/stop")
    assert (await maker.ended(message, [maker.produced(claimed)], "stopped")).status_code == 200
    job = (await admin.get(f"/api/jobs/{job_id}")).json()
    assert (job["state"], job["result"]["models"][0]["name"]) == ("stopped", "stopped")
    job_id, message, claimed = await maker.started(name="paused")
    await admin.post(f"/api/jobs/{job_id}/pause")
    assert (await maker.ended(message, [maker.produced(claimed)], "stopped")).status_code == 200
    assert (await admin.get(f"/api/jobs/{job_id}")).json()["state"] == "paused"
    _, message, claimed = await maker.started(name="failed")
    assert (await maker.ended(message, [maker.produced(claimed)], "failed")).status_code == 200
    assert [m["name"] for m in (await admin.get("/api/models")).json()["items"]] == ["stopped"]


async def test_an_attempt_registers_only_its_own_files(maker: Maker, admin: httpx.AsyncClient) -> None:
    job_id, message, claimed = await maker.started()
    good = maker.produced(claimed)
    for prefix in ("jobs/other/1/m", f"jobs/{job_id}/2/m", claimed["prefix"], f"{claimed['prefix']}../x", "", "/"):
        answer = await maker.ended(message, [{**good, "prefix": prefix}])
        assert (answer.status_code, answer.json()["code"]) == (422, "foreign_file"), prefix
    for models in ([{**good, "kind": "base"}], [{**good, "bytes": -1}], [{}], {}, 3, [3], [{**good, "kind": "cake"}]):
        answer = await maker.ended(message, models)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_model"), models
    assert (await admin.get("/api/models")).json()["items"] == []
    assert (await maker.ended(message, [good])).status_code == 200


async def test_lists_are_filtered_and_paged(maker: Maker, admin: httpx.AsyncClient) -> None:
    made = await maker.made(name="alpha")
    await add_base(admin, "beta")
    await add_base(admin, "beta", project="other")

    async def found(**params: Any) -> list[str]:
        answer = await admin.get("/api/models", params=params)
        assert answer.status_code == 200, answer.text
        return [f"{model['name']}@{model['project']}" for model in answer.json()["items"]]

    assert await found() == ["beta@other", "beta@default", "alpha@default"]
    assert await found(text="ALPH") == ["alpha@default"]
    assert await found(kind=["base", "gguf"], project="other") == ["beta@other"]
    assert await found(jobId=made["jobId"]) == ["alpha@default"]
    page = (await admin.get("/api/models", params={"limit": 2})).json()
    assert await found(limit=2, cursor=page["nextCursor"]) == ["alpha@default"]
    for params in ({"kind": "cake"}, {"jobId": "x"}, {"cursor": "x"}, {"limit": 0}, {"text": "\x00"}):
        assert (await admin.get("/api/models", params=params)).status_code == 422


async def test_other_projects_models_are_unknown(
    maker: Maker, admin: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    model = await maker.made(name="ours")
    assert (await stranger.get("/api/models")).json()["items"] == []
    assert (await stranger.get("/api/models", params={"project": "default"})).status_code == 404
    for named in (model["id"], "ours", "ours@1"):
        for method, path in (
            ("GET", ""), ("GET", "/lineage"), ("GET", "/card"), ("GET", "/files"), ("GET", "/files/config.json"),
            ("POST", "/verify"), ("DELETE", ""), ("PATCH", ""),
        ):  # fmt: skip
            body = {"json": {}} if method == "PATCH" else {}
            answer = await stranger.request(method, f"/api/models/{named}{path}", **body)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model"), (method, path)
        answer = await stranger.post("/api/training/jobs", json={**TRAINING, "modelName": named})
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
    assert (await admin.get("/api/models/ours")).status_code == 200
    assert (await admin.get("/api/models/oursx")).json()["hint"] == "Did you mean 'ours'?"
    assert "lists those" in (await stranger.get("/api/models/oursx")).json()["hint"]


@pytest.mark.parametrize("named", ["x", "x@", "x@1", "x@99999999999", "x@٣", "\x00", "é", "%20", str(uuid4())])
async def test_names_that_are_none(admin: httpx.AsyncClient, named: str) -> None:
    answer = await admin.get(f"/api/models/{quote(named)}")
    assert answer.status_code == 404, answer.text


async def test_files_are_listed_downloaded_and_verified(maker: Maker, admin: httpx.AsyncClient) -> None:
    model = await maker.made(name="m")
    items = (await admin.get("/api/models/m/files")).json()["items"]
    assert [(file["path"], file["bytes"]) for file in items] == [("config.json", 2), ("deep/model.bin", 7)]
    file = await admin.get("/api/models/m/files/deep/model.bin")
    assert (file.content, file.headers["content-length"]) == (b"weights", "7")
    for path in ("manifest.json", "none", "deep", "..%2F..%2Fx", "%00", "deep//model.bin"):
        answer = await admin.get(f"/api/models/m/files/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_file"), path
    verified = (await admin.post("/api/models/m/verify")).json()
    assert verified == {"ok": True, "files": 2, "bytes": 9, "problems": []}
    prefix = next(key for key, _ in maker.storage.list("jobs") if key.endswith("config.json")).rpartition("/")[0]
    maker.storage.put_bytes(f"{prefix}/deep/model.bin", b"changed")
    maker.storage.delete(f"{prefix}/config.json")
    verified = (await admin.post("/api/models/m/verify")).json()
    assert (verified["ok"], len(verified["problems"])) == (False, 2)
    assert (await admin.get("/api/models/m/files/config.json")).json()["code"] == "model_files_missing"
    maker.storage.put_bytes(f"{prefix}/deep/model.bin", b"longer than it was")
    assert "18 bytes" in str((await admin.post("/api/models/m/verify")).json())
    for broken in (b"{", b"[]", b'{"files": {"x": 3}}'):
        maker.storage.put_bytes(f"{prefix}/manifest.json", broken)
        assert (await admin.post(f"/api/models/{model['id']}/verify")).json()["ok"] is False
        answer = await admin.get("/api/models/m/files")
        assert (answer.status_code, answer.json()["code"]) == (409, "model_files_missing")
    maker.storage.put_bytes(f"{prefix}/manifest.json", b'{"files": {"../x": {"bytes": 1, "sha256": ""}}}')
    assert (await admin.post("/api/models/m/verify")).json()["ok"] is False
    assert (await admin.get("/api/models/m/files/..%2Fx")).status_code in {404, 409}


async def test_base_models(admin: httpx.AsyncClient, member: httpx.AsyncClient) -> None:
    model = await add_base(member, "house", source="org/name", template="chatml")
    assert (model["kind"], model["source"], model["template"], model["trustRemoteCode"]) == (
        "base", "org/name", "chatml", False,
    )  # fmt: skip
    assert (await add_base(member, "house", source="/data/m"))["version"] == 2
    assert (await member.get("/api/models/house/files")).json() == {"items": []}
    assert (await member.post("/api/models/house/verify")).json()["code"] == "model_has_no_files"
    assert (await member.get("/api/models/house/files/x")).json()["code"] == "unknown_file"
    body = {"name": "code", "source": "org/name", "trustRemoteCode": True}
    refused = await member.post("/api/models", json=body)
    assert (refused.status_code, refused.json()["field"]) == (403, "trustRemoteCode")
    assert (await admin.post("/api/models", json=body)).json()["trustRemoteCode"] is True
    for value in (True, False):
        answer = await member.patch("/api/models/house", json={"trustRemoteCode": value})
        assert (answer.status_code, answer.json()["field"]) == (403, "trustRemoteCode")
    changed = (await admin.patch("/api/models/house", json={"trustRemoteCode": True, "template": "llama3"})).json()
    assert (changed["version"], changed["trustRemoteCode"], changed["template"]) == (2, True, "llama3")
    assert (await member.patch("/api/models/house", json={"template": None})).json()["template"] is None
    assert (await admin.post("/api/models", json={**body, "project": "none"})).json()["code"] == "unknown_project"
    assert (await member.post("/api/models", json={**body, "project": "other"})).status_code == 403


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"source": "org/name"}, "name"),
        ({"name": "a/b", "source": "org/name"}, "name"),
        ({"name": "", "source": "org/name"}, "name"),
        ({"name": "a"}, "source"),
        ({"name": "a", "source": "builtin:none"}, "source"),
        ({"name": "a", "source": "word"}, "source"),
        ({"name": "a", "source": "./here"}, "source"),
        ({"name": "a", "source": "org/na me"}, "source"),
        ({"name": "a", "source": "org/name", "sorce": 1}, "sorce"),
        ({"name": "a", "source": "org/name", "template": ""}, "template"),
        ({"name": "a", "source": "org/name", "trustRemoteCode": "perhaps"}, "trustRemoteCode"),
    ],
)
async def test_bad_base_models_name_the_field(admin: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await admin.post("/api/models", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


async def test_viewers_only_read(url: str, new_key: NewKey, admin: httpx.AsyncClient) -> None:
    await add_base(admin)
    headers = {"Authorization": f"Bearer {await new_key(Role.viewer)}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as viewer:
        assert (await viewer.get("/api/models/house")).status_code == 200
        for method, path in (("POST", ""), ("PATCH", "/house"), ("DELETE", "/house")):
            answer = await viewer.request(method, f"/api/models{path}", json={"name": "a", "source": "org/a"})
            assert answer.status_code == 403


async def test_names_are_resolved_when_a_job_is_submitted(admin: httpx.AsyncClient, maker: Maker) -> None:
    await add_base(admin, "house-llama")
    for kind in ("training", "evaluation", "export"):
        base = TRAINING if kind == "training" else {}
        for named, hint in (
            ("builtin:tiny-qwen", "'builtin:tiny-qwen3'"),
            ("tiny-qwen3", "'builtin:tiny-qwen3'"),
            ("house-lama", "'house-llama'"),
            ("zzzz", "a path or a hub id"),
            ("house-llama@7", "'house-llama'"),
        ):
            answer = await admin.post(f"/api/{kind}/jobs", json={**base, "modelName": named})
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem["field"]) == (404, "unknown_model", "modelName")
            assert hint in problem["hint"]
        for named in ("builtin:smollm2-135m", "/data/model", "./model", "org/name"):
            answer = await admin.post(f"/api/{kind}/jobs", json={**base, "modelName": named})
            assert (answer.status_code, "modelId" in answer.json()["spec"]) == (201, False), answer.text
    job = (await admin.post("/api/training/jobs", json={**TRAINING, "modelName": "house-llama"})).json()
    newest = await add_base(admin, "house-llama")
    again = (await admin.post("/api/training/jobs", json={**TRAINING, "modelName": "house-llama"})).json()
    assert again["spec"]["modelId"] == newest["id"] != job["spec"]["modelId"]
    clone = (await admin.post(f"/api/jobs/{job['id']}/clone")).json()
    assert clone["spec"]["modelId"] == newest["id"]


async def test_a_claim_names_the_models_down_to_the_base(maker: Maker, admin: httpx.AsyncClient) -> None:
    base = await add_base(admin, "house", source="org/name", template="chatml", trustRemoteCode=True)
    adapter = await maker.made(name="one", modelName="house")
    assert (adapter["baseModel"], adapter["baseModelId"]) == ("house", base["id"])
    second = await maker.made(name="two", modelName="one@1")
    _, _, claimed = await maker.started(modelName="two", kind="evaluation")
    assert claimed["spec"]["modelId"] == second["id"]
    [model] = claimed["models"]
    assert (model["named"], model["id"], model["kind"], model["baseName"]) == ("two", second["id"], "adapter", None)
    assert (model["base"]["named"], model["base"]["id"]) == ("one@1", adapter["id"])
    assert model["base"]["prefix"].endswith("/model")
    root = model["base"]["base"]
    assert (root["id"], root["source"], root["template"], root["trustRemoteCode"], root["base"], root["prefix"]) == (
        base["id"], "org/name", "chatml", True, None, None,
    )  # fmt: skip
    _, _, claimed = await maker.started(modelName="org/other", kind="export")
    assert claimed["models"] == []
    loose = await maker.made(name="loose", modelName="org/far")
    _, _, claimed = await maker.started(modelName=loose["id"], kind="export")
    assert (claimed["models"][0]["base"], claimed["models"][0]["baseName"]) == (None, "org/far")


async def test_lineage(maker: Maker, admin: httpx.AsyncClient) -> None:
    base = await add_base(admin, "house", source="org/name")
    one = await maker.made(name="one", modelName="house")
    two = await maker.made(name="two", modelName="one", fields={"kind": "merged"})
    three = await maker.made(name="three", modelName="two")
    lineage = (await admin.get("/api/models/two/lineage")).json()
    assert lineage["model"] == two
    assert [model["id"] for model in lineage["ancestors"]] == [one["id"], base["id"]]
    assert [model["id"] for model in lineage["descendants"]] == [three["id"]]
    assert lineage["baseModel"] == "org/name"
    assert lineage["job"]["id"] == two["jobId"]
    assert lineage["job"]["configuration"]["modelName"] == "one"
    [read] = lineage["datasets"]
    assert (read["name"], read["version"]) == (TRAINING["dataset"], 1)
    root = (await admin.get("/api/models/house/lineage")).json()
    assert (root["job"], root["datasets"], root["ancestors"]) == (None, [], [])
    assert [model["id"] for model in root["descendants"]] == [one["id"], two["id"], three["id"]]


async def test_what_a_job_read_beside_its_base_is_kin_too(maker: Maker, admin: httpx.AsyncClient) -> None:
    parent = await maker.made(name="parent")
    judge = await maker.made(name="judge")
    child = await maker.made(name="child", adapter="parent", refModel="judge")
    lineage = (await admin.get("/api/models/child/lineage")).json()
    assert [model["id"] for model in lineage["ancestors"]] == [parent["id"], judge["id"]]
    assert lineage["baseModel"] == "builtin:tiny-qwen3"
    kin = (await admin.get("/api/models/parent/lineage")).json()["descendants"]
    assert [model["id"] for model in kin] == [child["id"]]
    refused = await admin.delete("/api/models/judge")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_in_use")
    assert "child@1" in refused.json()["detail"]
    assert (await admin.delete("/api/models/child")).status_code == 204
    assert (await admin.delete("/api/models/judge")).status_code == 204


async def test_models_in_use_stay(maker: Maker, admin: httpx.AsyncClient, database_url: str) -> None:
    base = await add_base(admin, "house")
    job_id, message, claimed = await maker.started(modelName="house", name="child")
    refused = await admin.delete("/api/models/house")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_in_use")
    assert job_id in refused.json()["detail"]
    files = maker.produced(claimed)
    await maker.ended(message, [files])
    refused = await admin.delete("/api/models/house")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_in_use")
    assert "child@1" in refused.json()["detail"]
    assert (await admin.delete("/api/models/child")).status_code == 204
    assert trashed(database_url) == {files["prefix"]}
    assert (await admin.get("/api/models/child")).status_code == 404
    assert (await admin.delete(f"/api/models/{base['id']}")).status_code == 204
    assert (await admin.delete(f"/api/models/{base['id']}")).status_code == 404


async def test_a_job_whose_model_was_deleted_is_not_tried_again(maker: Maker, admin: httpx.AsyncClient) -> None:
    await add_base(admin, "house")
    job_id, message, _ = await maker.started(modelName="house")
    await maker.worker.report(message, batch=1, outcome={"status": "failed", "reason": "bad_data"})
    assert (await admin.delete("/api/models/house")).status_code == 204
    refused = await admin.post(f"/api/jobs/{job_id}/retry")
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (409, "model_gone", "modelName")


async def test_a_model_is_never_lost_to_a_delete_while_jobs_are_submitted(admin: httpx.AsyncClient) -> None:
    for quota in (None, 1000):
        await admin.patch("/api/projects/default", json={"maxQueuedJobs": quota})
        for _ in range(5):
            await add_base(admin, "house")
            body = {**TRAINING, "modelName": "house"}
            answers = await asyncio.gather(
                *(admin.post("/api/training/jobs", json=body) for _ in range(8)), admin.delete("/api/models/house")
            )
            *submitted, deleted = [answer.status_code for answer in answers]
            assert set(submitted) <= {201, 404, 409}
            assert deleted in {204, 409}
            assert (201 in submitted) <= (deleted == 409), answers
            if deleted == 409:
                for answer in answers[:-1]:
                    if answer.status_code == 201:
                        await admin.post(f"/api/jobs/{answer.json()['id']}/stop")
                assert (await admin.delete("/api/models/house")).status_code == 204
