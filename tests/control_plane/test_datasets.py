"""Data sets over REST, with the real analyzer behind the control plane."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from control_plane.database import Database
from control_plane.datasets.analyzer import Analyzer
from control_plane.datasets.service import Datasets
from control_plane.hints import Hints
from control_plane.settings import ControlPlaneSettings
from control_plane.watcher.upkeep import Upkeep
from imts_shared.contracts.access import Role
from imts_shared.storage import Storage
from tests.conftest import free_port, served
from tests.control_plane.conftest import NewKey, control_plane
from tests.control_plane.worker_side import WorkerSide

GOOD = b'{"instruction": "a", "output": "b"}\n' * 3
BAD = b'{"instruction": "a", "output": "b"}\n{"instruction": "c"\n{"instruction": "d"}\n'


@pytest.fixture
async def analyzer(config: ControlPlaneSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    from analyzer_service.api import app
    from analyzer_service.settings import settings

    settings.cache_clear()
    port = free_port()
    monkeypatch.setattr(config, "analyzer_url", f"http://127.0.0.1:{port}")
    async with served(app, port):
        yield port


@pytest.fixture
async def client(analyzer: int, config: ControlPlaneSettings, new_key: NewKey) -> AsyncIterator[httpx.AsyncClient]:
    async with control_plane(config) as url:
        headers = {"Authorization": f"Bearer {await new_key()}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            yield client


async def upload(client: httpx.AsyncClient, content: bytes, name: str = "set", **fields: str) -> httpx.Response:
    files = {"file": (f"{name}.jsonl", content)}
    return await client.post("/api/datasets", files=files, data={"name": name, **fields})


async def test_uploaded_judged_shown_and_downloaded(client: httpx.AsyncClient) -> None:
    answer = await upload(client, GOOD)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    expected = {"name": "set", "version": 1, "format": "alpaca", "rows": 3, "badRows": 0, "state": "ready"}
    assert {k: made[k] for k in expected} == expected
    assert made["sha256"] == hashlib.sha256(GOOD).hexdigest()
    for named in (made["id"], "set", "set@1"):
        assert (await client.get(f"/api/datasets/{named}")).json() == made
    assert (await client.get("/api/datasets/set/download")).content == GOOD
    assert (await client.get("/api/datasets/set/preview", params={"offset": 1, "limit": 1})).json()["items"] == [
        {"instruction": "a", "output": "b"}
    ]
    assert (await client.get("/api/datasets/set@2")).status_code == 404


async def test_every_malformed_row_is_named(client: httpx.AsyncClient) -> None:
    made = (await upload(client, BAD)).json()
    assert (made["rows"], made["badRows"]) == (3, 2)
    problems = (await client.get(f"/api/datasets/{made['id']}/problems")).json()["items"]
    assert [(p["line"], p["code"]) for p in problems] == [(2, "invalid_json"), (3, "missing_field")]
    first = (await client.get("/api/datasets/set/problems", params={"limit": 1})).json()
    second = (await client.get("/api/datasets/set/problems", params={"limit": 1, "cursor": first["nextCursor"]})).json()
    assert first["items"] + second["items"] == problems


async def test_a_version_is_its_content(client: httpx.AsyncClient, storage_folder: Path) -> None:
    one = (await upload(client, GOOD)).json()
    same = await upload(client, GOOD)
    assert (same.status_code, same.json()["id"]) == (200, one["id"])
    two = (await upload(client, GOOD * 2)).json()
    assert two["version"] == 2
    other = (await upload(client, GOOD, name="other")).json()
    assert other["sha256"] == one["sha256"]
    assert [d["version"] for d in (await client.get("/api/datasets/set/versions")).json()["items"]] == [2, 1]
    assert [d["id"] for d in (await client.get("/api/datasets")).json()["items"]] == [other["id"], two["id"]]
    assert len((await client.get("/api/datasets", params={"allVersions": True})).json()["items"]) == 3
    files = [path for path in (storage_folder / "datasets").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert (await client.delete(f"/api/datasets/{one['id']}")).status_code == 204
    assert (await client.get("/api/datasets/other/download")).content == GOOD
    assert (await client.delete("/api/datasets/other")).status_code == 204
    assert len([path for path in (storage_folder / "datasets").rglob("*") if path.is_file()]) == 1


async def test_uploads_at_once_make_one_version_each(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(upload(client, GOOD * (1 + n % 3)) for n in range(9)))
    assert {a.status_code for a in answers} <= {200, 201}
    assert sorted({a.json()["version"] for a in answers}) == [1, 2, 3]
    assert len({a.json()["id"] for a in answers}) == 3


@pytest.mark.parametrize(
    ("files", "data", "status", "code", "field"),
    [
        ({"file": ("a.jsonl", b"")}, {"name": "a"}, 422, "empty_file", "file"),
        ({"file": ("a.png", b"\x89PNG\x00")}, {"name": "a"}, 422, "not_utf8", "file"),
        ({"file": ("a.jsonl", GOOD)}, {"name": "../a"}, 422, "bad_name", "name"),
        ({"file": ("a.jsonl", GOOD)}, {"name": "a", "formt": "alpaca"}, 422, "unknown_field", "formt"),
        ({"file": ("a.jsonl", GOOD)}, {"name": "a", "format": "alpacca"}, 422, "unknown_format", "format"),
        ({"file": ("a.jsonl", GOOD)}, {"name": "a", "project": "nowhere"}, 404, "unknown_project", None),
        ({"fil": ("a.jsonl", GOOD)}, {"name": "a"}, 422, "unknown_field", "fil"),
    ],
)
async def test_bad_uploads_are_named_and_leave_nothing(
    client: httpx.AsyncClient,
    storage_folder: Path,
    files: Any,
    data: dict[str, str],
    status: int,
    code: str,
    field: str | None,
) -> None:
    answer = await client.post("/api/datasets", files=files, data=data)
    assert (answer.status_code, answer.json()["code"], answer.json().get("field")) == (status, code, field), answer.text
    assert [path for path in storage_folder.rglob("*") if path.is_file()] == []
    assert (await client.get("/api/datasets")).json()["items"] == []


async def test_too_large_and_cut_off_uploads_leave_nothing(
    client: httpx.AsyncClient, config: ControlPlaneSettings, storage_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "max_upload_bytes", 10_000)
    assert (await upload(client, GOOD * 1_000)).status_code == 413
    assert (await client.post("/api/datasets", content=b"x", headers={"Content-Type": "text/plain"})).status_code == 415
    half = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
    cut = await client.post("/api/datasets", content=half, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (cut.status_code, cut.json()["code"]) == (400, "invalid_form")

    async def endless() -> AsyncIterator[bytes]:
        yield half
        await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await client.post(
                "/api/datasets",
                content=endless(),
                headers={"Content-Type": "multipart/form-data; boundary=b"},
            )
    await asyncio.sleep(0.3)
    assert [path for path in storage_folder.rglob("*") if path.is_file()] == []


async def test_a_used_data_set_is_not_deleted_and_an_unknown_one_not_used(client: httpx.AsyncClient) -> None:
    await upload(client, GOOD)
    wrong = await client.post("/api/analysis/jobs", json={"dataset": "sett"})
    assert (wrong.status_code, wrong.json()["field"]) == (404, "dataset")
    assert "'set'" in wrong.json()["hint"]
    job = (await client.post("/api/analysis/jobs", json={"dataset": "set"})).json()
    assert job["spec"] == {"dataset": "set", "datasetVersion": 1}
    refused = await client.delete("/api/datasets/set")
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")
    await client.post(f"/api/jobs/{job['id']}/stop")
    assert (await client.delete("/api/datasets/set")).status_code == 204


async def test_a_delete_waits_for_a_job_that_is_being_stored(client: httpx.AsyncClient, database: Database) -> None:
    made = (await upload(client, GOOD)).json()
    await upload(client, GOOD * 2, name="other")
    job = (await client.post("/api/analysis/jobs", json={"dataset": "other"})).json()
    async with database.transaction() as session:
        insert = text("INSERT INTO job_datasets (job_id, dataset_id) VALUES (:job, :dataset)")
        await session.execute(insert, {"job": job["id"], "dataset": made["id"]})
        deleting = asyncio.create_task(client.delete("/api/datasets/set"))
        await asyncio.sleep(0.3)
        assert not deleting.done()
    refused = await deleting
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")


async def test_a_file_that_can_never_be_judged_keeps_no_other_waiting(
    config: ControlPlaneSettings,
    database: Database,
    analyzer: int,
    admin: httpx.AsyncClient,
    storage_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(config, "analyzer_url", "http://127.0.0.1:9")
    async with (
        control_plane(config) as blind,
        httpx.AsyncClient(base_url=blind, headers=admin.headers, timeout=30) as client,
    ):
        lost = (await upload(client, GOOD)).json()
        kept = (await upload(client, GOOD * 2, name="other")).json()
        (storage_folder / "datasets" / lost["sha256"][:2] / lost["sha256"]).unlink()
        judge = Analyzer(f"http://127.0.0.1:{analyzer}", config.service_key.get_secret_value())
        try:
            assert await Datasets(database, Storage(config.storage_url), judge).inspect_unchecked() == 2
        finally:
            await judge.close()
        assert (await client.get(f"/api/datasets/{kept['id']}")).json()["state"] == "ready"
        assert (await client.get(f"/api/datasets/{lost['id']}")).json()["state"] == "unreadable"
        problems = (await client.get(f"/api/datasets/{lost['id']}/problems")).json()["items"]
        assert [p["code"] for p in problems] == ["no_such_file"]
        refused = (await client.post("/api/analysis/jobs", json={"dataset": lost["id"]})).json()
        assert (refused["code"], "problems" in refused["hint"]) == ("dataset_not_ready", True)


async def test_a_form_cannot_fill_the_memory_with_headers_nor_name_folders(client: httpx.AsyncClient) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    long = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + b"a" * 100_000
    refused = await client.post("/api/datasets", content=long, headers=form)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_form")
    for path in ("C:\\data\\b.jsonl", "../../b.jsonl"):
        answer = await client.post("/api/datasets", files={"file": (path, GOOD)}, data={"name": "a"})
        assert answer.json()["fileName"] == "b.jsonl"


async def test_without_the_analyzer_it_is_kept_unchecked_and_judged_later(
    admin: httpx.AsyncClient, database: Database, config: ControlPlaneSettings, analyzer: int, url: str
) -> None:
    """`admin` talks to an api that was started with a dead analyzer address; the upkeep knows the living one."""
    config.analyzer_url = "http://127.0.0.1:9"
    async with (
        control_plane(config) as blind,
        httpx.AsyncClient(base_url=blind, headers=admin.headers, timeout=30) as client,
    ):
        made = await upload(client, BAD)
        assert (made.status_code, made.json()["state"], made.json()["rows"]) == (202, "unchecked", None)
        refused = await client.post("/api/analysis/jobs", json={"dataset": "set"})
        assert (refused.status_code, refused.json()["code"]) == (409, "dataset_not_ready")
        living = config.model_copy(update={"analyzer_url": f"http://127.0.0.1:{analyzer}"})
        upkeep = Upkeep(database, Hints(database.url), Storage(config.storage_url), living)
        task = asyncio.create_task(upkeep.run())
        for _ in range(100):
            found = (await client.get("/api/datasets/set")).json()
            if found["state"] == "ready":
                break
            await asyncio.sleep(0.1)
        task.cancel()
        assert (found["state"], found["badRows"]) == ("ready", 2)


async def test_a_worker_gets_the_version_that_the_job_named(client: httpx.AsyncClient, database: Database) -> None:
    await upload(client, GOOD)
    await client.post("/api/analysis/jobs", json={"dataset": "set"})
    await upload(client, GOOD * 2)
    worker = WorkerSide(str(client.base_url), database)
    await worker.join()
    [message] = await worker.dispatch()
    [given] = (await worker.claim(message)).json()["inputs"]
    assert (given["version"], given["rows"], given["fileType"]) == (1, 3, "jsonl")


async def test_projects_do_not_see_each_others_data(client: httpx.AsyncClient, new_key: NewKey) -> None:
    made = (await upload(client, GOOD)).json()
    headers = {"Authorization": f"Bearer {await new_key(Role.member, 'other')}"}
    async with httpx.AsyncClient(base_url=client.base_url, headers=headers) as stranger:
        for path in ("", "/versions", "/problems", "/preview", "/download"):
            for named in (made["id"], "set"):
                assert (await stranger.get(f"/api/datasets/{named}{path}")).status_code == 404
        assert (await stranger.delete(f"/api/datasets/{made['id']}")).status_code == 404
        assert (await stranger.get("/api/datasets")).json()["items"] == []
        assert json.loads((await upload(stranger, GOOD)).content)["project"] == "other"
