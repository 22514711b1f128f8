"""Answers that are another thing than what was asked for: made into it where that can be, else asked elsewhere."""

import asyncio
import json
from typing import Any

import openai
import orjson
import pytest

from imts_shared.contracts.providers import ProviderKind
from inference_service.gateway.answers import Garbled
from inference_service.gateway.at_once import as_stream
from tests.gateway.conftest import Served
from tests.gateway.engines import Wire, chunk, engine, wire
from tests.gateway.platform_side import MEMBER, provider, served

CHAT = "/v1/chat/completions"
CALLS = [
    {"id": f"call-{at}", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Ulm"}'}}
    for at in range(2)
]
MESSAGE = {"role": "assistant", "content": "Good day!", "tool_calls": CALLS, "reasoning_content": "A greeting."}
ANSWER = {
    "id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "fp",
    "choices": [{"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "tool_calls"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12},
}  # fmt: skip


def _says(body: bytes, kind: str = "application/json", *, chunked: bool = False) -> Wire:
    async def says(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{length}\r\n\r\n".encode())
        writer.write(chunk(body) + b"0\r\n\r\n" if chunked else body)

    return says


async def _streamed(door: Served, **more: Any) -> list[Any]:
    async with openai.AsyncOpenAI(base_url=f"{door.gateway.url}/v1", api_key=MEMBER, max_retries=0) as client:
        words: Any = [{"role": "user", "content": "Hello"}]
        stream = await client.chat.completions.create(model="tiny", messages=words, stream=True, **more)
        return [one async for one in stream]


async def test_an_answer_that_came_whole_is_told_as_the_stream_that_was_asked_for(door: Served) -> None:
    async with wire(_says(orjson.dumps(ANSWER))) as one:
        await door.serve(served("tiny", one.url))
        plain = await _streamed(door)
        told = await _streamed(door, stream_options={"include_usage": True})
        used = await door.used_at("tiny", "deployment", 2)
    said, end = plain
    delta = said.choices[0].delta
    assert (delta.role, delta.content, delta.reasoning_content) == ("assistant", "Good day!", "A greeting.")
    assert [(call.index, call.id, call.function.name) for call in delta.tool_calls] == [
        (0, "call-0", "weather"),
        (1, "call-1", "weather"),
    ]
    assert (said.choices[0].finish_reason, end.choices[0].finish_reason) == (None, "tool_calls")
    assert {(one.id, one.object, one.system_fingerprint) for one in plain} == {("c-1", "chat.completion.chunk", "fp")}
    assert (told[-1].choices, told[-1].usage.total_tokens) == ([], 12)
    assert (used.input_tokens, used.output_tokens, used.estimated_tokens) == (6, 18, 0)


async def test_an_answer_of_anthropics_that_came_whole_is_told_as_a_stream_too(door: Served) -> None:
    body = {
        "type": "message", "content": [{"type": "text", "text": "Good day!"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 9},
    }  # fmt: skip
    async with wire(_says(orjson.dumps(body))) as one:
        await door.serve(providers=[provider("cloud", one.url, "tiny", kind=ProviderKind.anthropic)])
        said, end = await _streamed(door)
    assert (said.choices[0].delta.content, end.choices[0].finish_reason) == ("Good day!", "stop")


def test_a_completion_is_told_as_a_stream_of_its_own_kind() -> None:
    choice = {"index": 0, "text": "Good day!", "logprobs": None, "finish_reason": "length"}
    body = orjson.dumps({"object": "text_completion", "choices": [choice], "usage": {"prompt_tokens": 1}})
    only, done = as_stream(body, "/v1/completions", with_usage=False).strip().split(b"\n\n")
    assert json.loads(only[6:]) == {"object": "text_completion", "choices": [choice]}
    assert done == b"data: [DONE]"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"output": []}),
        (CHAT, {"choices": 3}),
        (CHAT, {"choices": [3]}),
        (CHAT, {"choices": [{"message": None}]}),
        (CHAT, {"object": "chat.completion"}),
    ],
)
def test_what_cannot_be_told_as_a_stream_is_garbage(path: str, body: dict[str, Any]) -> None:
    with pytest.raises(Garbled):
        as_stream(orjson.dumps(body), path, with_usage=False)


HTML = b"<html>" + b"x" * 5_200_000 + b"</html>"
LARGE = orjson.dumps(ANSWER).replace(b"Good day!", b"Good day! " * 500_000)


@pytest.mark.parametrize(
    "behave",
    [
        _says(HTML, "text/html"),
        _says(HTML, "text/html", chunked=True),
        _says(HTML),
        _says(b" " * 5_000_000),
        _says(b"[" + b"1," * 3_000_000 + b"1]"),
        _says(LARGE, "text/plain"),
        _says(b'{"detail": "Not Found"}'),
        _says(b'{"object": "error", "message": "no"}'),
    ],
)
async def test_what_is_no_answer_is_asked_elsewhere_however_large_it_is(door: Served, behave: Wire) -> None:
    async with wire(behave) as bad, engine("good") as good:
        for number in range(100):
            await door.serve(served("tiny", f"{bad.url}#{number}", f"{good.url}#{number}"))
            status, content = await door.gateway.chat("tiny")
            assert (status, content["model"]) == (200, "good")
            if bad.asked:
                break
        assert bad.asked, "one of the two is taken by chance"
        await door.serve(served("alone", bad.url))
        status, content = await door.gateway.chat("alone")
        assert (status, content["error"]["type"]) == (503, "server_error")
        used = await door.used_at("alone", "deployment", 1)
    assert used.input_tokens + used.output_tokens == 0


@pytest.mark.parametrize(("path", "body"), [("embeddings", b'{"detail": "no"}'), ("responses", b"{}")])
async def test_other_paths_have_answers_of_their_own(door: Served, path: str, body: bytes) -> None:
    async with wire(_says(body)) as bad:
        await door.serve(served("tiny", bad.url))
        status, content, _ = await door.gateway.post(f"/v1/{path}", json={"model": "tiny", "input": "x"})
    assert (status, content["error"]["type"]) == (503, "server_error")


async def test_a_message_too_large_to_be_translated_does_not_pass_as_it_is(door: Served) -> None:
    body = orjson.dumps({"type": "message", "content": [{"type": "text", "text": "x" * 5_000_000}]})
    async with wire(_says(body)) as one:
        await door.serve(providers=[provider("cloud", one.url, "tiny", kind=ProviderKind.anthropic)])
        status, content = await door.gateway.chat("tiny")
    assert (status, content["error"]["type"]) == (503, "server_error")


async def test_a_large_answer_that_tells_nothing_is_counted_within_bounds(door: Served) -> None:
    content = json.loads(LARGE)
    del content["usage"]
    async with wire(_says(b" \n" + orjson.dumps(content))) as one:
        await door.serve(served("tiny", one.url))
        status, got = await door.gateway.chat("tiny")
        assert (status, len(got["choices"][0]["message"]["content"])) == (200, 5_000_000)
        bounded, _ = await door.gateway.chat("tiny", max_tokens=50)
        assert bounded == 200
        used = await door.used_at("tiny", "deployment", 2)
    assert used.output_tokens == 2**17 + 50


async def test_large_embeddings_that_tell_nothing_are_counted_by_their_question(door: Served) -> None:
    body = orjson.dumps({"data": [{"embedding": [0.123456789] * 450_000}]})
    async with wire(_says(body)) as one:
        await door.serve(served("tiny", one.url))
        assert len(body) > 5_000_000
        asked = {"model": "tiny", "input": "x" * 300}
        assert (await door.gateway.post("/v1/embeddings", json=asked))[0] == 200
        used = await door.used_at("tiny", "deployment", 1)
    assert 100 < used.input_tokens < 200
    assert used.output_tokens == 0
    assert used.estimated_tokens == used.input_tokens
