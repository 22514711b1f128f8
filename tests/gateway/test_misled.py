"""Callers whose words come back in an upstream's refusal: they change nothing for others."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from imts_shared.contracts.providers import ProviderKind
from inference_service.gateway.targets import BELIEVED_SECONDS, Target
from tests.conftest import free_port
from tests.gateway.anthropic_server import message
from tests.gateway.conftest import Served
from tests.gateway.engines import event
from tests.gateway.platform_side import MEMBER, provider, serving

CHAT = "/v1/chat/completions"

Problem = Callable[[dict[str, Any]], str | None]


@asynccontextmanager
async def upstream(problem: Problem) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        content = await request.json()
        asked.append(content)
        if (wrong := problem(content)) is not None:
            return web.json_response({"error": {"message": wrong}}, status=400)
        if not content.get("stream"):
            return web.json_response(message([{"type": "text", "text": "Good day!"}]))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(event("m", 0) + b"data: [DONE]\n\n")
        return response

    port = free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with serving(app, port):
        yield f"http://127.0.0.1:{port}", asked


async def _stream(door: Served, **more: Any) -> int:
    async with (
        aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
        session.post(CHAT, json={"model": "tiny", "stream": True, **more}) as answer,
    ):
        await answer.read()
        return answer.status


async def test_a_caller_does_not_switch_off_the_counting_of_others(door: Served) -> None:
    def repeats(content: dict[str, Any]) -> str | None:
        given = content.get("temperature")
        return f"temperature: a number is wanted, not {given!r}" if isinstance(given, str) else None

    async with upstream(repeats) as (url, asked):
        await door.serve(providers=[provider("cloud", url, "tiny")])
        assert await _stream(door, temperature="stream_options") == 400
        assert await _stream(door) == 200
    assert [one.get("stream_options") for one in asked] == [
        {"include_usage": True},
        None,
        {"include_usage": True},
    ]


async def test_a_caller_does_not_switch_off_the_sampling_of_others(door: Served) -> None:
    def repeats(content: dict[str, Any]) -> str | None:
        return "there is no tool named temperature" if content.get("tool_choice") else None

    tool = {"type": "function", "function": {"name": "temperature", "parameters": {"type": "object"}}}
    forced = {"type": "function", "function": {"name": "temperature"}}
    words = [{"role": "user", "content": "Hello"}]
    async with upstream(repeats) as (url, asked):
        await door.serve(providers=[provider("cloud", url, "tiny", kind=ProviderKind.anthropic)])
        status, _ = await door.gateway.chat("tiny", temperature=0.5, messages=words, tools=[tool], tool_choice=forced)
        assert status == 400
        assert (await door.gateway.chat("tiny", temperature=0.5, messages=words))[0] == 200
    assert [one.get("temperature") for one in asked] == [0.5, None, 0.5]


async def test_a_model_that_takes_no_sampling_is_asked_without_it(door: Served) -> None:
    def refuses(content: dict[str, Any]) -> str | None:
        return "`temperature` is deprecated for this model." if "temperature" in content else None

    async with upstream(refuses) as (url, asked):
        await door.serve(providers=[provider("cloud", url, "tiny", kind=ProviderKind.anthropic)])
        for _ in range(2):
            assert (await door.gateway.chat("tiny", temperature=0.5))[0] == 200
    assert [one.get("temperature") for one in asked] == [0.5, None, None]


async def test_an_upstream_that_takes_no_question_for_usage_is_asked_without_it(door: Served) -> None:
    def refuses(content: dict[str, Any]) -> str | None:
        return "stream_options: extra inputs are not permitted" if "stream_options" in content else None

    async with upstream(refuses) as (url, asked):
        await door.serve(providers=[provider("cloud", url, "tiny")])
        for _ in range(2):
            assert await _stream(door) == 200
    assert [one.get("stream_options") for one in asked] == [{"include_usage": True}, None, None]


def test_what_is_known_of_an_upstream_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("http://127.0.0.1:1", "p")
    target.does_not_tell_usage()
    target.does_not_take_sampling()
    assert (target.tells_usage, target.takes_sampling) == (False, False)
    later = time.monotonic() + BELIEVED_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert (target.tells_usage, target.takes_sampling) == (True, True)
