"""The analyzer's API: who may ask, what it refuses, and large files in a process of their own."""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from analyzer_service import api
from analyzer_service.settings import settings
from tests.conftest import SERVICE_KEY, free_port, served

ROW = b'{"instruction": "a", "output": "b"}\n'


@pytest.fixture
async def client(storage_folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("IMTS_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("IMTS_STORAGE_URL", storage_folder.as_uri())
    monkeypatch.setenv("IMTS_SERVICE_KEY", SERVICE_KEY)
    settings.cache_clear()
    headers = {"Authorization": f"Bearer {SERVICE_KEY}"}
    async with (
        served(api.app, free_port()) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client,
    ):
        yield client
    settings.cache_clear()


async def inspect(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/inspect", json={"key": "uploads/x", "fileName": "x.jsonl", **body})


def put(folder: Path, content: bytes) -> None:
    (folder / "uploads").mkdir(exist_ok=True)
    (folder / "uploads" / "x").write_bytes(content)


async def test_only_the_services_key_opens_it(client: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \u00e4".encode("latin-1")}):
        client.headers = httpx.Headers(headers)
        for path in ("/inspect", "/preview"):
            answer = await client.post(path, json={})
            assert (answer.status_code, answer.json()["code"]) == (401, "wrong_service_key")
        for path in ("/healthz", "/readyz", "/info", "/metrics"):
            assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"key": "uploads/nothing"}, 404, "no_such_file"),
        ({"key": "../etc/passwd"}, 422, "bad_key"),
        ({"key": "uploads/x\u0000"}, 422, "bad_key"),
        ({"format": "alpacca"}, 422, "invalid_request"),
        ({"fileNam": "x"}, 422, "invalid_request"),
        ({"key": "uploads"}, 404, "no_such_file"),
    ],
)
async def test_refusals_are_problems(
    client: httpx.AsyncClient, storage_folder: Path, body: dict[str, str], status: int, code: str
) -> None:
    put(storage_folder, ROW)
    answer = await inspect(client, **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_unknown_paths_are_problems_too(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nowhere")).headers["content-type"] == "application/problem+json"
    assert (await client.get("/inspect")).status_code == 405


async def test_small_and_large_files_are_judged_alike_and_a_large_one_holds_nothing_up(
    client: httpx.AsyncClient, storage_folder: Path
) -> None:
    put(storage_folder, ROW * 3 + b"x\n")
    small = (await inspect(client)).json()
    assert (small["rows"], small["badRows"], small["problems"][0]["line"]) == (4, 1, 4)
    rows = api.SMALL_FILE // len(ROW) * 4
    put(storage_folder, ROW * rows + b"x\n")
    asked = asyncio.create_task(inspect(client))
    slowest = 0.0
    while not asked.done():
        before = time.perf_counter()
        assert (await client.get("/healthz")).status_code == 200
        slowest = max(slowest, time.perf_counter() - before)
        await asyncio.sleep(0.02)
    large = asked.result().json()
    assert (large["rows"], large["badRows"], large["problems"][0]["line"]) == (rows + 1, 1, rows + 1)
    assert small["sample"][0] == large["sample"][0]
    assert slowest < 0.5


async def test_an_inspection_that_breaks_says_so(
    client: httpx.AsyncClient, storage_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process of its own gets settings that it cannot start with."""
    put(storage_folder, ROW * (api.SMALL_FILE // len(ROW) + 1))
    monkeypatch.setenv("IMTS_LOG_LEVEL", "no such level")
    answer = await inspect(client)
    assert (answer.status_code, answer.json()["code"]) == (500, "inspection_failed")


async def test_the_process_of_a_large_file_ends_with_its_asker(client: httpx.AsyncClient, storage_folder: Path) -> None:
    put(storage_folder, ROW * 3_000_000)
    command = (sys.executable, "-m", "analyzer_service.inspect")
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"key": "uploads/x", "fileName": "x.jsonl"}).encode() + b"\n")
    await asyncio.sleep(1.5)
    assert process.returncode is None
    process.stdin.close()
    async with asyncio.timeout(30):
        assert await process.wait() == 1, "it read the file to its end"


async def test_preview_starts_where_it_is_asked_to(client: httpx.AsyncClient, storage_folder: Path) -> None:
    put(storage_folder, b"".join(b'{"text": "%d"}\n' % n for n in range(50)))
    answer = await client.post("/preview", json={"key": "uploads/x", "fileType": "jsonl", "offset": 40, "limit": 2})
    assert answer.json() == {"rows": [{"text": "40"}, {"text": "41"}]}
