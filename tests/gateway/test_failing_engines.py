"""Engines that refuse, reset, cut, stall and lie: another is asked, or the caller sees an error; never a clean end."""

import asyncio
import time

import aiohttp
import pytest

from tests.gateway.conftest import Served
from tests.gateway.engines import STREAM_HEAD, Wire, chunk, engine, event, refusing, reset, saying, wire
from tests.gateway.platform_side import MEMBER, served

CHAT = "/v1/chat/completions"
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


async def _closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _resets(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def _says_garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\x01 this is no HTTP\r\n\r\n")
    writer.close()


async def _promises_more(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(JSON_HEAD + b'content-length: 1000\r\n\r\n{"half":')
    writer.close()


async def _ends_before_its_first_event(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD)
    await writer.drain()
    writer.close()


async def _has_no_end(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(JSON_HEAD + b'\r\n{"choices": []}')
    writer.close()


async def _redirects(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")


async def _stalls(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _stalls_after_its_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD)
    await reader.read()


async def _says_nothing_but_comments(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD)
    while not writer.is_closing():
        writer.write(chunk(b": one moment\n\n"))
        await writer.drain()
        await asyncio.sleep(0.1)


async def cuts_mid_stream(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + chunk(event("cut", 0)))
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()


async def _resets_mid_stream(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + chunk(event("cut", 0)))
    await writer.drain()
    await asyncio.sleep(0.05)
    reset(writer)


async def _falls_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + chunk(event("cut", 0)))
    await reader.read()


async def _cuts_a_large_answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(JSON_HEAD + b'content-length: 9000000\r\n\r\n{"choices": ' + b" " * 100_000)
    await writer.drain()
    writer.close()


NO_BYTE = (_closes, _resets, _says_garbage, _promises_more, _ends_before_its_first_event, _has_no_end, _redirects)
NO_BYTE_IN_TIME = (_stalls, _stalls_after_its_head, _says_nothing_but_comments)
CUT = (cuts_mid_stream, _resets_mid_stream, _falls_silent, _cuts_a_large_answer)


@pytest.mark.parametrize("behave", [*NO_BYTE, *NO_BYTE_IN_TIME])
async def test_another_engine_is_asked_while_the_caller_has_seen_nothing(door: Served, behave: Wire) -> None:
    stream = behave in NO_BYTE_IN_TIME
    async with (
        wire(behave) as bad,
        engine("good") as good,
        aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
    ):
        for number in range(100):
            await door.serve(served("tiny", f"{bad.url}#{number}", f"{good.url}#{number}"))
            async with session.post(CHAT, json={"model": "tiny", "stream": stream}) as answer:
                assert answer.status == 200
                assert "good" in await answer.text()
            assert len(good.bodies) == number + 1
            if bad.asked:
                break
        assert bad.asked, "one of the two is taken by chance"


async def test_an_engine_that_is_gone_is_passed_over_and_then_left_to_rest(door: Served) -> None:
    async with engine("good") as good:
        await door.serve(served("half-gone", refusing(), good.url))
        answers = [await door.gateway.chat("half-gone") for _ in range(30)]
        numbers = await _numbers(door)
    assert {status for status, _ in answers} == {200}
    assert 1 <= _number(numbers, 'imts_gateway_tries_lost_total{model="half-gone"}') <= 5


async def test_each_engine_is_asked_once(door: Served) -> None:
    async with wire(_closes) as one, wire(_closes) as two:
        await door.serve(served("tiny", one.url, two.url))
        status, content = await door.gateway.chat("tiny")
    assert (status, content["error"]["code"], content["error"]["type"]) == (503, "model_unreachable", "server_error")
    assert (one.asked, two.asked) == (1, 1)


@pytest.mark.parametrize("fallbacks", ["none", "stopped"])
async def test_no_more_engines_are_asked_than_the_setting_says(door: Served, fallbacks: str) -> None:
    async with wire(_closes) as one, wire(_closes) as two, wire(_closes) as three, wire(_closes) as four:
        every = (one, two, three, four)
        await door.serve(served("tiny", *(bad.url for bad in every)), served("stopped", state="stopped"))
        told = {"x-imts-fallbacks": fallbacks}
        status, content, _ = await door.gateway.post(CHAT, json={"model": "tiny"}, headers=told)
    assert (status, content["error"]["code"]) == (502, "engine_failed")
    assert sum(bad.asked for bad in every) == 3


async def test_one_engine_that_gives_no_byte_in_time_is_a_timeout_too(door: Served) -> None:
    async with wire(_stalls) as one:
        await door.serve(served("tiny", one.url))
        status, content = await door.gateway.chat("tiny", stream=True)
    assert (status, content["error"]["code"]) == (504, "engine_timeout")
    assert content["error"]["message"] == "One engine gave no answer in time."


async def test_engines_that_give_no_byte_in_time_are_a_timeout(door: Served) -> None:
    async with wire(_stalls) as one, wire(_stalls) as two, wire(_stalls) as three:
        await door.serve(served("tiny", one.url, two.url, three.url))
        begun = time.monotonic()
        status, content = await door.gateway.chat("tiny", stream=True)
    assert (status, content["error"]["code"]) == (504, "engine_timeout")
    assert 2.9 < time.monotonic() - begun < 5


async def test_the_whole_answer_has_its_limit(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("tiny", one.url))
        one.go_on.clear()
        begun = time.monotonic()
        status, content = await door.gateway.chat("tiny")
        await asyncio.wait_for(one.hung_up.wait(), 1)
    assert (status, content["error"]["code"]) == (504, "timeout")
    assert 7.5 < time.monotonic() - begun < 10


@pytest.mark.parametrize("behave", CUT)
async def test_an_answer_that_breaks_off_is_broken_off_for_the_caller(door: Served, behave: Wire) -> None:
    async with (
        wire(behave) as bad,
        engine() as good,
        aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
    ):
        await door.serve(served("tiny", bad.url))
        begun = time.monotonic()
        stream = behave is not _cuts_a_large_answer
        async with session.post(CHAT, json={"model": "tiny", "stream": stream}) as answer:
            assert answer.status == 200
            assert await answer.content.readany()
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.read()
        assert time.monotonic() - begun < 3
        assert good.bodies == []
        await door.serve(served("tiny", good.url))
        assert (await door.gateway.chat("tiny"))[0] == 200


async def test_the_end_of_a_chunked_answer_is_not_made_up(door: Served) -> None:
    async with wire(cuts_mid_stream) as bad:
        await door.serve(served("tiny", bad.url))
        body = b'{"model": "tiny", "stream": true}'
        reader, writer = await asyncio.open_connection("127.0.0.1", door.gateway.port)
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MEMBER}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        said = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert b"data: " in said
    assert not said.endswith(b"0\r\n\r\n")


async def test_a_caller_that_hangs_up_ends_the_engines_work_at_once(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("tiny", one.url))
        for stream in (True, False):
            one.go_on.clear()
            one.hung_up.clear()
            asking = asyncio.create_task(door.gateway.chat("tiny", stream=stream))
            while one.running == 0:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            asking.cancel()
            await asyncio.wait_for(one.hung_up.wait(), 0.5)
            while one.running:
                await asyncio.sleep(0.01)
        numbers = await _numbers(door)
    assert _number(numbers, 'imts_gateway_hung_up_total{model="tiny"}') >= 2
    assert _number(numbers, 'imts_gateway_in_flight{model="tiny"}') == 0


async def test_the_engines_own_errors_pass_and_others_get_openais_shape(door: Served) -> None:
    own = b'{"error": {"message": "too long", "type": "BadRequestError", "param": "messages", "code": 400}}'
    for status, body, expected in (
        (400, own, own.decode()),
        (404, b'{"detail": "Not Found"}', "Not Found"),
        (500, b"Internal Server Error", "Internal Server Error"),
        (500, b"", "said no more"),
        (429, b'{"object": "error", "message": "slow down"}', "slow down"),
    ):

        async def says(
            _reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int = status, body: bytes = body
        ) -> None:
            head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nretry-after: 7\r\n\r\n"
            writer.write(head.encode() + body)

        async with wire(says) as one:
            await door.serve(served("tiny", one.url))
            got, content, headers = await door.gateway.post(CHAT, json={"model": "tiny"})
            assert (got, headers["retry-after"], one.asked) == (status, "7", 1)
            assert set(content["error"]) == {"message", "type", "param", "code"}
            assert content["error"]["message"] in expected or expected in content["error"]["message"]


async def _numbers(door: Served) -> str:
    async with aiohttp.ClientSession(door.gateway.url) as session, session.get("/metrics") as answer:
        return await answer.text()


def _number(numbers: str, series: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in numbers.splitlines() if line.startswith(series))


DEEP = b"[" * 600 + b"]" * 600


async def test_errors_that_are_nested_deeply_are_errors_like_others(door: Served) -> None:
    async with saying(b'{"message":%b}' % DEEP, 500) as (url, asked), engine("good") as good:
        await door.serve(served("nested", url, good.url))
        assert {(await door.gateway.chat("nested"))[0] for _ in range(8)} == {200}
        assert len(asked) <= 2
    async with saying(b'{"message":%b}' % DEEP, 400) as (url, _):
        await door.serve(served("nested", url))
        status, content = await door.gateway.chat("nested")
    assert (status, content["error"]["code"]) == (400, "engine_error")
    assert content["error"]["message"].startswith('{"message":[[[')


async def test_a_plain_chat_that_is_nested_deeply_is_told_so(door: Served) -> None:
    async with saying(b'{"choices":[{"message":{"content":%b}}]}' % DEEP) as (url, _):
        await door.serve(served("nested", url))
        body = b'{"model":"nested","messages":[{"role":"user","content":%b}]}' % DEEP
        status, content, _ = await door.gateway.post("/api/chat", data=body)
        assert (status, content["error"]["code"]) == (400, "invalid_json")
        assert "nested too deeply" in content["error"]["message"]
        status, content, _ = await door.gateway.post("/api/chat", json={"model": "nested", "message": "Hello"})
        assert (status, content["error"]["code"]) == (502, "engine_failed")


async def test_a_response_that_nobody_keeps_is_told_by_its_field(door: Served) -> None:
    words = b'{"error": {"message": "Response with id \'resp_1\' not found.", "type": "NotFoundError", "code": 404}}'
    async with saying(words, 404) as (url, _):
        await door.serve(served("tiny", url))
        asked = {"model": "tiny", "input": "x"}
        _, content, _ = await door.gateway.post("/v1/responses", json=asked)
        assert (content["error"]["code"], content["error"]["param"]) == ("unsupported_endpoint", "model")
        asked["previous_response_id"] = "resp_1"
        status, content, _ = await door.gateway.post("/v1/responses", json=asked)
    error = content["error"]
    assert (status, error["code"], error["param"]) == (404, "response_not_found", "previous_response_id")
    assert error["message"].endswith("Response with id 'resp_1' not found.")
