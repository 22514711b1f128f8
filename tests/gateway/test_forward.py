"""One base URL serves an OpenAI client whole: what is not asked of a model is the control plane's to answer."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import openai
import pytest

from tests.gateway.conftest import Served
from tests.gateway.platform_side import MEMBER


async def test_files_and_fine_tuning_go_to_the_control_plane_with_the_callers_key(door: Served) -> None:
    content = b'{"messages": []}\n' * 300_000
    async with openai.AsyncOpenAI(base_url=f"{door.gateway.url}/v1", api_key=MEMBER) as client:
        made = await client.files.create(file=("data.jsonl", content), purpose="fine-tune")
        assert made.id == "file-1"
        await client.files.delete("file-1")
        with pytest.raises(openai.NotFoundError) as missing:
            await client.files.retrieve("missing")
        await client.get("/fine_tuning/jobs?limit=3", cast_to=dict[str, str])
    assert "There is no file 'missing' here. List them." in missing.value.message
    assert missing.value.code == "unknown_file"
    asked = [(method, path) for method, path, _, _ in door.platform.forwarded]
    assert asked == [
        ("POST", "/v1/files"),
        ("DELETE", "/v1/files/file-1"),
        ("GET", "/v1/files/missing"),
        ("GET", "/v1/fine_tuning/jobs?limit=3"),
    ]
    headers, body = door.platform.forwarded[0][2:]
    assert headers["Authorization"] == f"Bearer {MEMBER}"
    assert content in body


async def test_a_control_plane_that_is_away_is_told_in_openais_shape(door: Served) -> None:
    status, content, _ = await door.gateway.post("/v1/batches", json={})
    assert (status, content["id"]) == (200, "file-1")
    status, content = await door.gateway.get("/v1/filesystem")
    assert (status, content["error"]["code"]) == (404, "unknown_url")


async def test_a_download_ends_when_its_caller_leaves(door: Served) -> None:
    async with aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session:
        async with session.get("/v1/files/endless/content") as answer:
            assert answer.status == 200
            await answer.content.readany()
        assert not door.platform.download_left.is_set()
    await asyncio.wait_for(door.platform.download_left.wait(), 3)


async def test_an_upload_ends_when_its_caller_leaves(door: Served) -> None:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1_000
            await asyncio.sleep(0.02)

    async with aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session:
        with pytest.raises(TimeoutError):
            await session.post("/v1/files", data=parts(), timeout=aiohttp.ClientTimeout(total=0.5))
    status, content = await door.gateway.get("/healthz", None)
    assert (status, content) == (200, {"status": "ok"})


async def test_a_download_that_nobody_reads_is_broken_off(door: Served) -> None:
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        caller.connect(("127.0.0.1", door.gateway.port))
        head = f"GET /v1/files/endless/content HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MEMBER}\r\n\r\n"
        caller.sendall(head.encode())
        await asyncio.wait_for(door.platform.download_left.wait(), 10)
