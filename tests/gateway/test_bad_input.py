"""What callers get wrong, and how it is said to them."""

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from imts_shared.contracts.serving import Snapshot
from inference_service.gateway.directory import Directory
from inference_service.gateway.errors import Refusal
from inference_service.gateway.requests import parse
from tests.gateway.conftest import Served, gateway_process
from tests.gateway.engines import engine, wire
from tests.gateway.platform_side import KEYS, MEMBER, platform, served

CHAT = "/v1/chat/completions"
HEAD = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MEMBER}\r\n"

PATIENT = {f"IMTS_GATEWAY_{limit}_SECONDS": "60" for limit in ("FIRST_BYTE", "SILENCE", "WHOLE")}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b'{"model": "tiny"} and more', "invalid_json", None),
        (b'{"model": "tiny", "text": "\xff\xfe"}', "invalid_json", None),
        (b'{"model": "tiny", "temperature": NaN}', "invalid_json", None),
        (b"[" * 200_000, "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b"{}", "missing_model", "model"),
        (b'{"model": null}', "missing_model", "model"),
        (b'{"model": ""}', "invalid_model", "model"),
        (b'{"model": ["tiny"]}', "invalid_model", "model"),
        (b'{"model": "tiny", "stream": 1}', "invalid_type", "stream"),
        (b'{"model": "tiny", "stream": 0}', "invalid_type", "stream"),
        (b'{"model": "tiny", "stream": 1.0}', "invalid_type", "stream"),
        (b'{"model": "tiny", "stream": "true"}', "invalid_type", "stream"),
        (b'{"model": "tiny", "stream": "no"}', "invalid_type", "stream"),
        (b'{"model": "tiny", "stream": []}', "invalid_type", "stream"),
        (b'{"model": "tiny", "stream": true, "stream_options": true}', "invalid_type", "stream_options"),
        (
            b'{"model": "tiny", "stream": true, "stream_options": {"include_usage": 1}}',
            "invalid_type",
            "stream_options.include_usage",
        ),
    ],
)
async def test_a_body_that_says_nothing_is_refused(door: Served, body: bytes, code: str, param: str | None) -> None:
    async with engine() as one:
        await door.serve(served("tiny", one.url))
        status, content, _ = await door.gateway.post(CHAT, data=body)
    error: dict[str, Any] = content["error"]
    assert (status, error["type"], error["code"], error["param"]) == (400, "invalid_request_error", code, param)
    assert "\\ufffd" not in error["message"]
    assert one.bodies == []


@pytest.mark.parametrize(
    ("path", "body", "param", "told"),
    [
        ("analyze", [], None, "body: must be a JSON object."),
        ("analyze", {}, None, "body: give query or messages, and not both."),
        ("analyze", {"querry": "x"}, "querry", "querry: there is no field 'querry'. Did you mean 'query'?"),
        (
            "analyze",
            {"query": "x", "zzz": 1},
            "zzz",
            "zzz: there is no field 'zzz'. Known fields: query, messages, tools, route.",
        ),
        ("feedback", {"rating": 3}, "decisionId", "decisionId: the field is missing."),
        ("feedback", {"decisionId": "d", "rating": "3"}, "rating", "rating: must be a number, not text."),
        ("report", "x", None, "body: must be a JSON object."),
        ("evaluate", {"policies": "uniform"}, "policies", "policies: input should be a valid list."),
        ("analyze", {"x" * 1_000_000: 1}, "x" * 200, "x" * 500),
    ],
)
async def test_what_is_wrong_with_a_field_is_said_in_words(
    door: Served, path: str, body: Any, param: str | None, told: str
) -> None:
    await door.serve()
    begun = time.monotonic()
    status, content, _ = await door.gateway.post(f"/api/routing/{path}", json=body)
    error = content["error"]
    assert (status, error["code"], error["param"]) == (400, "invalid_request", param)
    assert error["message"].startswith(told) and len(error["message"]) < 800
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("label", ["", "  "])
async def test_an_empty_label_is_refused(door: Served, label: str) -> None:
    await door.serve()
    body = {"decisionId": "dec-1", "rating": 3, "label": label}
    status, content, _ = await door.gateway.post("/api/routing/feedback", json=body)
    assert (status, content["error"]["param"]) == (400, "label")
    assert content["error"]["message"].startswith("label: must not be empty")


@pytest.mark.parametrize(
    ("rest", "stream"),
    [
        (b"", False),
        (b', "stream": null', False),
        (b', "stream": false, "stream_options": 1', False),
        (b', "stream": true', True),
        (b', "stream": true, "stream_options": null', True),
        (b', "stream": true, "stream_options": {"include_usage": null}', True),
        (b', "stream": true, "stream_options": {"include_usage": false}', True),
    ],
)
def test_what_is_a_stream(rest: bytes, stream: bool) -> None:
    assert parse(b'{"model": "tiny"%b}' % rest, {}).stream is stream


async def test_a_compressed_body_is_refused(door: Served) -> None:
    status, content, _ = await door.gateway.post(CHAT, data=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert (status, content["error"]["code"]) == (415, "compressed_body")


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_refused_and_the_refusal_read(door: Served, announced: bool) -> None:
    """The caller goes on sending while the answer comes: it must not lose it to a reset connection."""
    part = b"x" * 100_000

    async def parts() -> Any:
        for _ in range(520):
            yield part

    before = _resident(door.gateway.process.pid)
    body: Any = part * 520 if announced else parts()
    status, content, headers = await door.gateway.post(CHAT, data=body)
    assert (status, content["error"]["code"], headers["connection"]) == (413, "body_too_large", "close")
    assert _resident(door.gateway.process.pid) - before < 120_000_000


@pytest.mark.parametrize("one", [b'"ab"', b"1", b"{}", b'"\\\\"'])
async def test_a_body_that_would_take_many_times_its_bytes_takes_no_memory(door: Served, one: bytes) -> None:
    parts = [one + b","] * (49_000_000 // (len(one) + 1))
    body = b'{"model": "tiny", "x": [%b1]}' % b"".join(parts)
    pid = door.gateway.process.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = _resident(pid)
    status, content, _ = await door.gateway.post(CHAT, data=body)
    assert (status, content["error"]["code"]) == (413, "body_too_complex")
    assert _most_resident(pid) - before < 160_000_000


async def test_a_length_behind_thousands_of_zeros_is_a_length(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("tiny", one.url))
        reader, writer = await asyncio.open_connection("127.0.0.1", door.gateway.port)
        for length, status in ((b"16", b"200"), (b"18446744073709551615", b"413")):
            writer.write(HEAD.encode() + b"content-length: %b%b\r\n\r\n" % (b"0" * 5_000, length))
            writer.write(b'{"model":"tiny"}')
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)
            assert head.startswith(b"HTTP/1.1 %b" % status)
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        writer.close()


async def test_a_body_that_does_not_arrive_is_not_waited_for(door: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.gateway.port)
    writer.write(HEAD.encode() + b'content-length: 100\r\n\r\n{"model":')
    said = await asyncio.wait_for(reader.readuntil(b"}}"), 3)
    writer.close()
    assert said.startswith(b"HTTP/1.1 408")
    assert b"body_timeout" in said


@pytest.mark.parametrize(
    ("begun", "status"), [(b"GET /healthz HTTP/1.1\r\nx: ", b"HTTP/1.1 408"), (b"", b"")], ids=["slow", "silent"]
)
async def test_a_head_that_does_not_arrive_is_not_waited_for(door: Served, begun: bytes, status: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.gateway.port)
    writer.write(begun)
    for _ in range(4):
        await asyncio.sleep(0.4)
        if begun and not writer.is_closing():
            writer.write(b"x")
    with contextlib.suppress(ConnectionError):
        said = await asyncio.wait_for(reader.read(), 3)
        assert said.startswith(status)
        assert b"head_timeout" in said or not begun
    writer.close()


async def test_a_head_without_end_is_refused_and_takes_no_memory(door: Served) -> None:
    before = _resident(door.gateway.process.pid)
    reader, writer = await asyncio.open_connection("127.0.0.1", door.gateway.port)
    writer.write(HEAD.encode() + b"x-long: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(200):
            writer.write(b"x" * 2**16)
            await writer.drain()
    said = b""
    with contextlib.suppress(ConnectionError):
        said = await asyncio.wait_for(reader.read(), 3)
    writer.close()
    assert said == b"" or b"head_too_large" in said
    assert _resident(door.gateway.process.pid) - before < 20_000_000


async def test_several_requests_over_one_connection_each_get_their_time(door: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.gateway.port)
    for _ in range(4):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b'{"status":"ok"}' in await asyncio.wait_for(reader.readuntil(b"}"), 3)
        await asyncio.sleep(0.5)
    writer.close()


async def test_a_request_id_that_could_do_harm_is_replaced(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("tiny", one.url))
        for given in ("with spaces", "x" * 500, "semi;colon"):
            _, _, headers = await door.gateway.post(CHAT, json={"model": "tiny"}, headers={"x-request-id": given})
            assert headers["x-request-id"].startswith("req-")
    assert all(sent["x-request-id"].startswith("req-") for sent in one.headers)


async def test_what_is_no_http_closes_its_own_connection_alone(door: Served) -> None:
    for garbage in (b"\x00\xff\r\n\r\n", os.urandom(2_000), HEAD.encode() + b"x: a\x00b\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.gateway.port)
        writer.write(garbage)
        writer.write_eof()
        said = await asyncio.wait_for(reader.read(), 3)
        assert said == b"" or said.startswith(b"HTTP/1.1 400")
        writer.close()
    assert (await door.gateway.get("/healthz"))[0] == 200


async def test_five_hundred_streams_at_once(tmp_path: Path) -> None:
    async with platform() as here, engine() as one:
        with gateway_process(tmp_path, here.url, **PATIENT) as gateway:
            await gateway.until_up()
            await gateway.until_knows(here.publish(served("tiny", one.url)))
            one.go_on.clear()
            asking = [asyncio.create_task(_streamed(gateway.port)) for _ in range(500)]
            while one.running < 500:
                await asyncio.sleep(0.05)
            assert _resident(gateway.process.pid) < 300_000_000
            one.go_on.set()
            assert set(await asyncio.gather(*asking)) == {b"[DONE]"}


async def _streamed(port: int) -> bytes:
    body = b'{"model": "tiny", "stream": true}'
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{HEAD}content-length: {len(body)}\r\n\r\n".encode() + body)
    said = await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    return said.rpartition(b"data: ")[2].split(b"\n")[0]


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _most_resident(pid: int) -> int:
    told = Path(f"/proc/{pid}/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) * 1_024


async def test_a_plain_chat_whose_large_answer_breaks_off_is_told_so(door: Served) -> None:
    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n{")
        writer.write(b" " * 100_000)
        await writer.drain()
        writer.close()

    async with wire(behave) as broken:
        await door.serve(served("tiny", broken.url))
        status, content, _ = await door.gateway.post("/api/chat", json={"message": "x", "model": "tiny"})
    assert (status, content["error"]["code"]) == (502, "engine_failed")


def test_an_unknown_name_among_thousands_is_answered_quickly() -> None:
    directory = Directory()
    names = [f"team-{number:04}-qwen2.5-{number % 90}b-instruct" for number in range(3_000)]
    directory.apply(Snapshot(version="v1", keys=list(KEYS), models=[served(name, "http://x") for name in names]))
    caller = directory.caller(f"Bearer {MEMBER}".encode(), None)
    begun = time.process_time()
    with pytest.raises(Refusal) as refused:
        directory.find(caller, "team-1234-qwen2.5-64b-instrukt")
    assert time.process_time() - begun < 0.06
    assert "Did you mean `team-1234-qwen2.5-64b-instruct`?" in refused.value.message
