"""/v1/responses: what is kept of it for data sets, and what the gateway cannot do."""

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from control_plane.datasets.from_requests import conversation
from control_plane.usage.rows import LoggedRequestRow
from imts_shared.contracts.access import RequestLog
from imts_shared.contracts.serving import KnownProject
from imts_shared.contracts.usage import LoggedRequest
from inference_service.gateway import logbook, responses
from tests.conftest import free_port
from tests.gateway.conftest import Served
from tests.gateway.engines import engine
from tests.gateway.platform_side import MEMBER, served, serving

RESPONSES = "/v1/responses"
ASKED: dict[str, Any] = {
    "model": "tiny",
    "instructions": "Be short.",
    "input": [
        {"role": "user", "content": "What is the weather at anna@example.com's?"},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"at": "home"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {"role": "user", "content": [{"type": "input_text", "text": "And "}, {"type": "input_text", "text": "then?"}]},
    ],
    "tools": [{"type": "function", "name": "weather", "description": "Tells it.", "parameters": {"type": "object"}}],
}
MESSAGES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "What is the weather at [email]'s?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "home"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    {"role": "user", "content": "And then?"},
]
OUTPUT = [
    {"type": "reasoning", "id": "r1", "summary": []},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Sun, ", "annotations": []}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I think."}]},
    {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
]
SAID = {
    "role": "assistant",
    "content": "Sun, I think.",
    "tool_calls": [{"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
}


async def _answer(request: web.Request) -> web.StreamResponse:
    usage = {"input_tokens": 20, "output_tokens": 5, "total_tokens": 25}
    whole = {"id": "resp-1", "object": "response", "status": "completed", "output": OUTPUT, "usage": usage}
    if not (await request.json()).get("stream"):
        return web.json_response(whole)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**whole, "output": [], "status": "in_progress", "usage": None}},
        {"type": "response.output_text.delta", "delta": "Sun, "},
        {"type": "response.output_item.done", "item": OUTPUT[1]},
        {"type": "response.completed", "response": whole},
    ]
    for event in events:
        await response.write(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event)))
    return response


async def _logged(door: Served) -> LoggedRequest:
    for _ in range(200):
        found = [one for report in door.platform.reports for one in report.requests]
        if found:
            return found[0]
        await asyncio.sleep(0.02)
    raise AssertionError("nothing was kept")


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_kept_as_a_chat_that_a_data_set_takes(door: Served, stream: bool) -> None:
    app, port = web.Application(), free_port()
    app.router.add_post("/v1/responses", _answer)
    async with serving(app, port):
        projects = [KnownProject(name="default", request_log=RequestLog.full)]
        await door.serve(served("tiny", f"http://127.0.0.1:{port}"), projects=projects)
        async with (
            aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
            session.post(RESPONSES, json={**ASKED, "stream": stream, "temperature": 0.5}) as answer,
        ):
            assert answer.status == 200
            await answer.read()
        kept = await _logged(door)
    assert (kept.input_tokens, kept.output_tokens, kept.answer) == (20, 5, SAID)
    assert kept.request is not None
    assert kept.request["messages"] == MESSAGES
    assert kept.request["temperature"] == 0.5
    row = LoggedRequestRow(**kept.model_dump(exclude={"request", "answer"}), request=kept.request, answer=kept.answer)
    function = {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}}
    assert conversation(row) == {"messages": [*MESSAGES, SAID], "tools": [{"type": "function", "function": function}]}


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp-0"},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
        {"input": [{"role": "nobody", "content": "x"}]},
        {"input": [3]},
        {"input": [[]]},
        {"input": None},
        {"input": {"role": "user"}},
        {"tools": [{"type": "web_search"}]},
        {"tools": 7},
    ],
)
def test_what_no_chat_can_say_is_kept_as_it_came(more: dict[str, Any]) -> None:
    assert responses.as_chat({**ASKED, **more}) == {**ASKED, **more}


def test_plain_input_and_pictures() -> None:
    assert responses.as_chat({"input": "Hello"}) == {"messages": [{"role": "user", "content": "Hello"}]}
    parts = [{"type": "input_text", "text": "See:"}, {"type": "input_image", "image_url": "https://x.example/a.png"}]
    assert responses.as_chat({"input": [{"role": "developer", "content": parts}]})["messages"] == [
        {
            "role": "system",
            "content": [
                {"type": "text", "text": "See:"},
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            ],
        }
    ]


def test_a_stream_without_its_last_event_is_what_was_said_until_then() -> None:
    events = [
        b'event: response.created\ndata: {"type": "response.created", "response": {"output": []}}',
        b'data: {"type": "response.output_text.delta", "delta": "Sun"}',
        b'data: {"type": "response.output_text.delta", "delta": "ny"}',
    ]
    assert logbook.message(b"\n\n".join(events)) == {"role": "assistant", "content": "Sunny"}
    assert logbook.message(b'{"output": [], "usage": {}}') is None
    assert logbook.message(b'{"output": [3]}') is None
    assert logbook.message(b'{"output": [{"type": "message"}]}') is None


async def test_a_long_stream_is_kept_as_it_is_short_once_put_together(door: Served) -> None:
    async with engine("one") as one:
        one.pieces = 3_000
        projects = [KnownProject(name="default", request_log=RequestLog.full)]
        await door.serve(served("tiny", one.url), projects=projects)
        async with (
            aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
            session.post("/v1/chat/completions", json={"model": "tiny", "stream": True, "messages": []}) as answer,
        ):
            assert len(await answer.read()) > logbook.LARGEST
        kept = await _logged(door)
    assert kept.answer is not None
    assert kept.answer["content"].endswith("2998 2999 ")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/resp-1"), ("DELETE", "/resp-1"), ("POST", "/resp-1/cancel"), ("GET", "/resp-1/input_items?limit=2")],
)
async def test_a_stored_response_is_not_to_be_had_here_and_that_is_said(door: Served, method: str, path: str) -> None:
    async with (
        aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
        session.request(method, f"{RESPONSES}{path}") as answer,
    ):
        assert answer.status == 404
        error = (await answer.json())["error"]
    assert (error["code"], error["type"]) == ("response_not_stored", "invalid_request_error")
    assert "keeps no responses" in error["message"]
