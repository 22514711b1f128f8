"""What callers get of an engine that answers well."""

import asyncio
import hashlib
from datetime import UTC, datetime

import aiohttp
import orjson

from tests.gateway.conftest import Served
from tests.gateway.engines import chunk, engine, event, wire
from tests.gateway.platform_side import ADMIN, EXPIRED, MEMBER, OTHER, VIEWER, served

CHAT = "/v1/chat/completions"


async def test_a_body_reaches_the_engine_byte_by_byte_and_its_answer_comes_back(door: Served) -> None:
    body = b'{ "model":"tiny",  "messages":[], "unknown": {"x": 1.50}, "n": 10000000000000000000000 }'
    async with engine("one") as one:
        await door.serve(served("tiny", one.url))
        status, content, headers = await door.gateway.post(
            CHAT, data=body, headers={"content-type": "application/json", "x-request-id": "mine-1", "cookie": "a=b"}
        )
    assert (status, content["choices"][0]["message"]["content"]) == (200, "I am one.")
    assert one.bodies == [body]
    assert headers["x-request-id"] == "mine-1"
    assert one.headers[0]["x-request-id"] == "mine-1"
    assert "authorization" not in one.headers[0]
    assert "cookie" not in one.headers[0]


async def test_events_come_one_by_one_as_the_engine_says_them(door: Served) -> None:
    async with (
        engine("one") as one,
        aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
    ):
        await door.serve(served("tiny", one.url))
        one.pieces, one.go_on = 2, asyncio.Event()
        async with session.post(CHAT, json={"model": "tiny", "stream": True}) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            assert await asyncio.wait_for(answer.content.readany(), 2) == event("one", 0)
            one.go_on.set()
            assert await answer.content.read() == event("one", 1) + b"data: [DONE]\n\n"


async def test_one_who_reads_slowly_gets_a_long_stream_whole_and_holds_up_its_engine_alone(door: Served) -> None:
    """40 MB of events to a caller that reads nothing for a while, and then by fits and starts."""
    events = [
        b"data: " + orjson.dumps({"choices": [{"delta": {"content": f"{number} " * 1_500}}]}) + b"\n\n"
        for number in range(6_000)
    ]
    done = b"data: [DONE]\n\n"
    said = 0

    async def pours(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for one in events:
            writer.write(chunk(one))
            await writer.drain()
            said += 1
        writer.write(chunk(done) + b"0\r\n\r\n")

    async with (
        wire(pours) as one,
        aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
    ):
        await door.serve(served("tiny", one.url))
        async with session.post(CHAT, json={"model": "tiny", "stream": True}) as answer:
            await asyncio.sleep(1.0)
            assert said < len(events) / 2, "the rest waits at the engine"
            assert (await asyncio.wait_for(door.gateway.get("/health"), 1))[0] == 200
            got = hashlib.sha256()
            size = 0
            async for part in answer.content.iter_chunked(2**20):
                got.update(part)
                size += len(part)
                if size % 7 == 0:
                    await asyncio.sleep(0.02)
    whole = b"".join(events) + done
    assert (size, got.digest()) == (len(whole), hashlib.sha256(whole).digest())


async def test_every_path_leads_to_the_engines_own(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("tiny", one.url))
        for path in ("chat/completions", "completions", "embeddings", "responses", "tokenize"):
            status, _, _ = await door.gateway.post(f"/v1/{path}", json={"model": "tiny"})
            assert status == 200, path
    assert one.paths == ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/tokenize"]


async def test_who_has_no_right_key_is_told_so_in_openais_shape(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("tiny", one.url))
        for key, status, code in (
            (None, 401, "missing_api_key"),
            ("wrong", 401, "invalid_api_key"),
            (EXPIRED, 401, "expired_api_key"),
            (VIEWER, 403, "insufficient_role"),
        ):
            got, content = await door.gateway.chat("tiny", key)
            assert (got, content["error"]["code"]) == (status, code)
            assert set(content["error"]) == {"message", "type", "param", "code"}
            assert key is None or key not in content["error"]["message"]
        assert (await door.gateway.get("/v1/models", "wrong"))[0] == 401
    assert one.bodies == []


async def test_a_project_neither_sees_nor_uses_anothers_models(door: Served) -> None:
    async with engine("ours") as ours, engine("theirs") as theirs:
        await door.serve(
            served("smollm2", ours.url, created_at=datetime(2026, 11, 21, tzinfo=UTC)),
            served("smollm2", theirs.url, project="other"),
            served("secret", theirs.url, project="other"), served("asleep", state="asleep"),
            served("broken", state="failed"), served("only-third", theirs.url, project="third"),
            served("only-third", theirs.url, project="fourth"),
        )  # fmt: skip
        listed = (await door.gateway.get("/v1/models"))[1]
        assert [(one["id"], one["owned_by"]) for one in listed["data"]] == [
            ("asleep", "default"),
            ("smollm2", "default"),
        ]
        assert set(listed["data"][0]) == {"id", "object", "created", "owned_by"}
        assert listed["data"][1]["created"] == 1_795_219_200
        assert (await door.gateway.get("/v1/models/smollm2"))[1]["id"] == "smollm2"
        assert (await door.gateway.get("/v1/models/secret"))[0] == 404

        status, content = await door.gateway.chat("secret")
        assert (status, content["error"]["code"], content["error"]["param"]) == (404, "model_not_found", "model")
        status, content = await door.gateway.chat("smolm2")
        assert status == 404
        assert "Did you mean `smollm2`?" in content["error"]["message"]
        status, content = await door.gateway.chat("x" * 100_000)
        assert (status, len(content["error"]["message"]) < 400) == (404, True)

        assert (await door.gateway.chat("smollm2", OTHER))[1]["model"] == "theirs"
        assert (await door.gateway.chat("smollm2", ADMIN))[1]["model"] == "ours"
        status, content = await door.gateway.chat("only-third", ADMIN)
        assert (status, content["error"]["code"]) == (400, "ambiguous_model")
        assert "fourth, third" in content["error"]["message"]
        status, content, _ = await door.gateway.post(
            CHAT, ADMIN, json={"model": "smollm2"}, headers={"openai-project": "other"}
        )
        assert (status, content["model"]) == (200, "theirs")
        status, content, _ = await door.gateway.post(
            CHAT, MEMBER, json={"model": "smollm2"}, headers={"openai-project": "other"}
        )
        assert (status, content["model"]) == (200, "ours")


async def test_a_key_that_is_revoked_is_refused_with_the_next_snapshot(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("tiny", one.url))
        assert (await door.gateway.chat("tiny"))[0] == 200
        await door.serve(served("tiny", one.url), keys=[])
        assert (await door.gateway.chat("tiny"))[0] == 401


async def test_what_is_running_counts_and_the_less_busy_engine_is_asked(door: Served) -> None:
    async with engine("one") as one, engine("two") as two:
        await door.serve(served("tiny", one.url, two.url), served("its-adapter", one.url, adapter=True))
        one.pause = two.pause = 0.3
        answers = await asyncio.gather(*(door.gateway.chat("tiny") for _ in range(16)))
        assert {status for status, _ in answers} == {200}
        assert abs(one.most_running - two.most_running) <= 2
        one.go_on = asyncio.Event()
        held = [asyncio.create_task(door.gateway.chat("its-adapter")) for _ in range(4)]
        while one.running < 4:
            await asyncio.sleep(0.01)
        two.pause = 0
        assert {content["model"] for _, content in [await door.gateway.chat("tiny") for _ in range(8)]} == {"two"}
        one.go_on.set()
        assert {status for status, _ in await asyncio.gather(*held)} == {200}


async def test_health_and_numbers_need_no_key(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("numbered", one.url))
        await door.gateway.chat("numbered", stream=False)
        async with aiohttp.ClientSession(door.gateway.url) as session:
            for path in ("/health", "/healthz", "/readyz", "/info"):
                async with session.get(path) as answer:
                    assert answer.status == 200, path
            async with session.get("/metrics") as answer:
                numbers = await answer.text()
    assert 'imts_gateway_requests_total{model="numbered",status="200"} 1.0' in numbers
    assert 'imts_gateway_first_byte_seconds_count{model="numbered"} 1.0' in numbers
    assert 'imts_gateway_overhead_seconds_count{model="numbered"} 1.0' in numbers
    assert 'imts_gateway_in_flight{model="numbered"} 0.0' in numbers


async def test_an_unknown_path_and_a_wrong_method_are_answered_in_openais_shape(door: Served) -> None:
    status, content, _ = await door.gateway.post("/v1/nothing", data=b"x")
    assert (status, content["error"]["code"]) == (404, "unknown_url")
    status, content = await door.gateway.get(CHAT)
    assert (status, content["error"]["code"]) == (405, "method_not_allowed")


async def test_an_answer_larger_than_is_taken_whole_passes_too(door: Served) -> None:
    async with engine("x" * 6_000_000) as one:
        await door.serve(served("large", one.url))
        status, content = await door.gateway.chat("large")
    assert (status, len(content["model"])) == (200, 6_000_000)


async def test_a_large_body_passes_whole(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("tiny", one.url))
        body = orjson.dumps({"model": "tiny", "text": "y" * 20_000_000})
        status, _, _ = await door.gateway.post(CHAT, data=body)
    assert status == 200
    assert one.bodies == [body]
