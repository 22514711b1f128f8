"""What an upstream says went wrong: told without its key, and known as an error wherever it says so."""

import asyncio
import contextlib

import aiohttp
import orjson
import pytest

from imts_shared.contracts.providers import ProviderKind
from inference_service.gateway.answers import Stream
from inference_service.gateway.targets import Prices, Provided, Target
from tests.gateway.conftest import Served
from tests.gateway.engines import STREAM_HEAD, Wire, chunk, engine, event, wire
from tests.gateway.platform_side import MEMBER, provider, served

CHAT = "/v1/chat/completions"
KEY = "sk/test/0123456789+abc"
MESSAGES = [{"role": "user", "content": "Hello"}]


def _target(key: str) -> Target:
    headers = (("authorization", f"Bearer {key}"),)
    return Target("http://127.0.0.1:1", "p", Provided("p", "p", ProviderKind.openai, headers, "m", True, Prices()))


@pytest.mark.parametrize(
    "said",
    [
        KEY.encode(),
        orjson.dumps(KEY)[1:-1],
        KEY.replace("/", r"\/").encode(),
        KEY.replace("/", r"\u002f").encode(),
        KEY.replace("/", r"\u002F").replace("s", r"\u0073").encode(),
        KEY.replace("/", r"\\\/").encode(),
        "".join(f"\\u{ord(one):04x}" for one in KEY).encode(),
    ],
)
def test_a_key_is_known_however_json_writes_it(said: bytes) -> None:
    told = _target(KEY).without_secrets(b'{"message": "invalid: ' + said + b' given"}')
    assert b"0123456789" not in told
    assert b"***" in told
    assert orjson.loads(told)["message"].endswith(" given")


def test_a_key_of_odd_characters_is_no_pattern() -> None:
    assert _target("a.*(b)[c]\\d{2}").without_secrets(rb"a.*(b)[c]\d{2} axx(b)") == b"*** axx(b)"
    assert Target("http://127.0.0.1:1", "p").without_secrets(b"as it is") == b"as it is"


def _stream(*events: bytes) -> Wire:
    async def says(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for one in events[:-1]:
            writer.write(chunk(one))
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(chunk(events[-1]) + b"0\r\n\r\n")

    return says


async def _told(door: Served, path: str = CHAT) -> str:
    async with (
        aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
        session.post(path, json={"model": "tiny", "messages": MESSAGES, "stream": True}) as answer,
    ):
        parts = [repr(dict(answer.headers)).encode()]
        with contextlib.suppress(aiohttp.ClientPayloadError):
            while part := await answer.content.readany():
                parts.append(part)
    return b"".join(parts).decode()


async def test_a_key_within_a_streams_error_goes_no_further(door: Served) -> None:
    error = b'data: {"type":"error","error":{"type":"authentication_error","message":"invalid key %b"}}\n\n'
    escaped = KEY.replace("/", r"\/").encode()
    for kind, said in (
        (ProviderKind.anthropic, (b"event: error\n" + error % KEY.encode(),)),
        (ProviderKind.openai, (event("m", 0), error % KEY.encode())),
        (ProviderKind.openai, (event("m", 0), error % escaped)),
        (ProviderKind.openai, (error % escaped,)),
    ):
        async with wire(_stream(*said)) as bad:
            await door.serve(providers=[provider("cloud", bad.url, "tiny", kind=kind, key=KEY)])
            told = await _told(door)
            assert bad.asked == 1, told
            assert "0123456789" not in told
            assert len(said) == 1 or "invalid key ***" in told
    log = door.gateway.log.read_text()
    assert "invalid key ***" in log or "invalid key" not in log
    assert "0123456789+abc" not in log


async def test_a_key_in_an_errors_headers_and_body_goes_no_further(door: Served) -> None:
    body = b'{"error": {"message": "wrong: %b", "code": null}}' % KEY.replace("/", r"\/").encode()

    async def refuses(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 400 X\r\nx-your-key: {KEY}\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    async with wire(refuses) as bad:
        await door.serve(providers=[provider("cloud", bad.url, "tiny", key=KEY)])
        status, content, headers = await door.gateway.post(CHAT, json={"model": "tiny"})
    assert (status, content["error"]["message"], headers["x-your-key"]) == (400, "wrong: ***", "***")


@pytest.mark.parametrize(
    "said", [b'{"type":"error","code":"server_error","message":"x"}', b'{"type":"response.failed","response":{}}']
)
async def test_an_error_of_responses_before_anything_else_is_asked_elsewhere(door: Served, said: bytes) -> None:
    async with wire(_stream(b"data: " + said + b"\n\n")) as bad, engine("good") as good:
        for number in range(100):
            await door.serve(served("tiny", f"{bad.url}#{number}", f"{good.url}#{number}"))
            assert '"id":"good"' in await _told(door, "/v1/responses")
            if bad.asked:
                return
    raise AssertionError("one of the two is taken by chance")


async def test_a_response_that_failed_is_no_success(door: Served) -> None:
    begun = b'data: {"type":"response.created","response":{}}\n\n'
    failed = b'event: response.failed\ndata: {"type":"response.failed","response":{"error":{"message":"x"}}}\n\n'
    async with wire(_stream(begun, failed)) as bad:
        await door.serve(served("failing", bad.url))
        async with (
            aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
            session.post("/v1/responses", json={"model": "failing", "input": "x", "stream": True}) as answer,
        ):
            assert await answer.read() == begun + failed
        assert (await door.used_at("failing", "deployment", 1)).failed == 1


def test_an_error_stays_one_whatever_comes_after_it() -> None:
    stream = Stream(hide_usage=False)
    stream.feed(b'data: {"error":{"message":"x"}}\n\ndata: {"type":"response.completed","response":{}}\n\n')
    assert stream.failed
