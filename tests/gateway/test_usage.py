"""Tokens are counted as the upstreams count them, and told once, whatever happens to gateway and control plane."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import openai
import pytest
from aiohttp import web

from imts_shared.contracts.providers import ProviderModel
from tests.conftest import free_port
from tests.gateway.conftest import Served, gateway_process
from tests.gateway.engines import engine, wire
from tests.gateway.platform_side import MEMBER, platform, provider, served, serving

CHAT = "/v1/chat/completions"


class Talker:
    """Streams words, and its usage if it is asked for it, as OpenAI does: in an event of its own before the end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.takes_options = True
        self.asked: list[dict[str, object]] = []
        self.pause = 0.0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        options = asked.get("stream_options")
        if options is not None and not self.takes_options:
            return web.json_response({"error": {"message": "stream_options is not supported"}}, status=400)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for word in ("Good", " day", "!"):
            await response.write(_event({"choices": [{"index": 0, "delta": {"content": word}}]}))
            await asyncio.sleep(self.pause)
        await response.write(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        if options and options["include_usage"]:
            details = {"cached_tokens": 40}
            usage = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": details}
            await response.write(_event({"choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        return response


def _event(content: dict[str, object]) -> bytes:
    said = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **content}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


@asynccontextmanager
async def talker() -> AsyncIterator[Talker]:
    here = Talker(free_port())
    app = web.Application()
    app.router.add_post("/{path:.*}", here.answer)
    async with serving(app, here.port):
        yield here


async def _stream(door: Served, **more: object) -> bytes:
    async with (
        aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
        session.post(CHAT, json={"model": "tiny", "stream": True, **more}) as answer,
    ):
        return await answer.read()


async def test_whole_answers_are_counted_and_priced(door: Served) -> None:
    async with engine("cloud") as cloud:
        await door.serve(
            providers=[provider("cloud", cloud.url, ProviderModel(name="tiny", input_price=2, output_price=10))]
        )
        for _ in range(5):
            assert (await door.gateway.chat("tiny"))[0] == 200
        used = (await door.used(5))["tiny", "cloud"]
    assert (used.requests, used.failed, used.input_tokens, used.output_tokens) == (5, 0, 5, 20)
    assert used.estimated_tokens == 0
    assert abs(used.cost - 5 * (1 * 2 + 4 * 10) / 1e6) < 1e-12
    assert (used.key_id, used.project) == ("key-member", "default")


async def test_a_streams_usage_is_asked_for_and_kept_from_a_caller_that_did_not_ask(door: Served) -> None:
    async with talker() as here:
        model = ProviderModel(name="tiny", input_price=2, output_price=10, cached_input_price=1)
        await door.serve(providers=[provider("cloud", here.url, model)])
        said = await _stream(door)
        asked = await _stream(door, stream_options={"include_usage": True})
        used = (await door.used(2))["tiny", "cloud"]
    assert b"usage" not in said
    assert said.endswith(b"data: [DONE]\n\n")
    assert said.count(b"data: ") == 5
    assert b'"prompt_tokens": 100' in asked
    assert (used.input_tokens, used.cached_tokens, used.output_tokens) == (200, 80, 14)
    assert used.estimated_tokens == 0
    assert abs(used.cost - 2 * (60 * 2 + 40 * 1 + 7 * 10) / 1e6) < 1e-12


async def test_an_upstream_that_does_not_know_the_question_is_asked_without_it(door: Served) -> None:
    async with talker() as here, engine("other") as other:
        here.takes_options = False
        await door.serve(providers=[provider("cloud", here.url, "tiny"), provider("other", other.url, "tiny")])
        while len(here.asked) < 2:
            assert b"[DONE]" in await _stream(door)
            await asyncio.sleep(0.05)
    assert "stream_options" in here.asked[0]
    assert "stream_options" not in here.asked[1]


async def test_a_caller_that_hangs_up_is_counted_by_what_passed(door: Served) -> None:
    async with talker() as here:
        here.pause = 0.4
        await door.serve(served("tiny", here.url))
        async with aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session:
            answer = await session.post(CHAT, json={"model": "tiny", "stream": True, "user": "x" * 400})
            await answer.content.readuntil(b"\n\n")
            answer.close()
        used = (await door.used(1))["tiny", "deployment"]
    assert used.output_tokens == 1
    assert used.estimated_tokens == used.output_tokens + used.input_tokens > 100


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_that_hangs_up_before_the_answer_pays_for_its_question(door: Served, stream: bool) -> None:
    """Or a hard budget could be passed by for ever."""
    heard, left = asyncio.Event(), asyncio.Event()

    async def thinks(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        heard.set()
        await reader.read()
        left.set()

    async with wire(thinks) as here:
        await door.serve(providers=[provider("slow", here.url, ProviderModel(name="tiny", input_price=1_000_000))])
        asked = {"model": "tiny", "stream": stream, "user": "x" * 400}
        under_way = asyncio.create_task(door.gateway.post(CHAT, json=asked))
        await asyncio.wait_for(heard.wait(), 5)
        under_way.cancel()
        await asyncio.wait_for(left.wait(), 5)
        used = await door.used_at("tiny", "slow", 1)
    assert (used.output_tokens, used.failed) == (0, 0)
    assert used.cost == used.input_tokens == used.estimated_tokens > 100


async def test_a_request_that_nobody_took_is_counted_as_failed(door: Served) -> None:
    await door.serve(providers=[provider("gone", f"http://127.0.0.1:{free_port()}", "tiny")])
    assert (await door.gateway.chat("tiny"))[0] == 503
    used = (await door.used(1))["tiny", "gone"]
    assert (used.requests, used.failed, used.output_tokens, used.cost) == (1, 1, 0, 0)


async def test_openais_own_client_gets_usage_only_where_it_asks(door: Served) -> None:
    async with talker() as here, openai.AsyncOpenAI(base_url=f"{door.gateway.url}/v1", api_key=MEMBER) as client:
        await door.serve(served("tiny", here.url))
        plain = [one async for one in await client.chat.completions.create(model="tiny", messages=[], stream=True)]
        told = await client.chat.completions.create(
            model="tiny", messages=[], stream=True, stream_options={"include_usage": True}
        )
        last = [one async for one in told][-1]
    assert all(one.usage is None and one.choices for one in plain)
    assert last.usage is not None
    assert last.usage.prompt_tokens == 100


async def test_nothing_is_lost_or_told_twice_when_the_control_plane_or_the_gateway_goes(tmp_path: Path) -> None:
    async with platform() as here, engine("one") as one:
        with gateway_process(tmp_path, here.url) as gateway:
            await gateway.until_up()
            door = Served(here, gateway)
            await door.serve(served("tiny", one.url))
            await gateway.chat("tiny")
            await door.used(1)
            here.away = True
            for _ in range(7):
                assert (await gateway.chat("tiny"))[0] == 200
            await asyncio.sleep(0.6)
            gateway.process.kill()
            gateway.process.wait(10)
        here.away = False
        with gateway_process(tmp_path, here.url) as gateway:
            await gateway.until_up()
            await gateway.until_knows(here.version)
            assert (await gateway.chat("tiny"))[0] == 200
            used = (await Served(here, gateway).used(9))["tiny", "deployment"]
    assert used.requests == 9
    assert used.output_tokens == 36
    assert not list((tmp_path / "gateway-reports").glob("*")), "what was heard is not kept"


async def test_what_is_counted_last_is_told_before_the_gateway_ends(tmp_path: Path) -> None:
    async with platform() as here, engine("one") as one:
        with gateway_process(tmp_path, here.url) as gateway:
            await gateway.until_up()
            await gateway.until_knows(here.publish(served("tiny", one.url)))
            await gateway.chat("tiny")
            gateway.process.terminate()
            await asyncio.to_thread(gateway.process.wait, 20)
    assert here.used()["tiny", "deployment"].requests == 1
