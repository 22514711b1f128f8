"""Both ways over a real socket: asked as OpenAI's callers ask, answered by a server as strict as Anthropic's."""

from typing import Any

import aiohttp
import pytest

from inference_service.gateway.anthropic.answer import Answer, completion, envelope
from inference_service.gateway.anthropic.failures import refusal
from inference_service.gateway.anthropic.request import PATH, encoded, headers, to_anthropic
from inference_service.gateway.anthropic.stream import Stream
from inference_service.gateway.errors import Refusal
from tests.gateway.anthropic_server import AnthropicServer, anthropic_server, message

chat = pytest.importorskip("openai.types.chat")
accumulating = pytest.importorskip("openai.lib.streaming.chat")
streaming = pytest.importorskip("openai._streaming")

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"place": "Ulm"}}


async def ask(server: AnthropicServer, body: dict[str, Any], key: str = "sk-test") -> Answer | tuple[Stream, bytes]:
    around = envelope(body, "chatcmpl-1", 1700000000)
    asked = encoded(to_anthropic(body, "claude-test"))
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.post(PATH, data=asked, headers=headers(key)) as response,
    ):
        if response.status != 200:
            raise refusal(response.status, await response.read(), response.headers.get("retry-after"))
        if not body.get("stream"):
            return completion(await response.read(), around)
        stream, told = Stream(around), b""
        try:
            async for piece in response.content.iter_any():
                told += stream.feed(piece)
        except aiohttp.ClientError:
            assert not stream.finished
        return stream, told


def gathered(told: bytes) -> Any:
    state = accumulating.ChatCompletionStreamState()
    for event in streaming.SSEDecoder().iter_bytes(iter([told])):
        if event.data != "[DONE]":
            state.handle_chunk(chat.ChatCompletionChunk.model_validate_json(event.data))
    return state.current_completion_snapshot


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "claude", "messages": [{"role": "user", "content": "Hello"}, *messages], **more}


async def whole(server: AnthropicServer, asked: dict[str, Any]) -> Any:
    answer = await ask(server, asked)
    assert isinstance(answer, Answer)
    return chat.ChatCompletion.model_validate_json(answer.content)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_is_called_and_its_result_told(streamed: bool) -> None:
    """The answer goes back into the next question as OpenAI's callers do it: with nothing but what was answered."""
    async with anthropic_server() as server:
        server.says = message([{"type": "text", "text": "Let me see."}, CALL], "tool_use")
        first = body(tools=[TOOL], stream=streamed)
        if streamed:
            answer = await ask(server, first)
            assert isinstance(answer, tuple)
            assert answer[0].finished
            said = gathered(answer[1]).choices[0].message
        else:
            said = (await whole(server, first)).choices[0].message
        server.says = message([{"type": "text", "text": "It rains."}])
        result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "rain"}
        last = await whole(server, body(said.model_dump(), result, tools=[TOOL]))
        assert last.choices[0].message.content == "It rains."
        assert server.asked[1]["messages"][1]["content"] == [{"type": "text", "text": "Let me see."}, CALL]


async def test_a_stream_over_the_wire() -> None:
    async with anthropic_server() as server:
        answer = await ask(server, body(stream=True, stream_options={"include_usage": True}))
        assert isinstance(answer, tuple)
        stream, told = answer
        read = gathered(told)
        assert (read.choices[0].message.content, read.usage.total_tokens) == ("Hello there.", 26)
        assert (stream.finished, stream.usage.prompt) == (True, 19)
        assert told.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("breaks", range(8))
async def test_a_stream_that_breaks_is_not_finished(breaks: int) -> None:
    async with anthropic_server() as server:
        server.breaks = breaks
        answer = await ask(server, body(stream=True))
        assert isinstance(answer, tuple)
        assert not answer[0].finished
        assert b"[DONE]" not in answer[1]


async def test_an_error_in_place_of_the_end() -> None:
    async with anthropic_server() as server:
        server.fails = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        answer = await ask(server, body(stream=True))
        assert isinstance(answer, tuple)
        stream, told = answer
        assert not stream.finished
        assert stream.error is not None
        assert stream.error.status == 503
        assert b"[DONE]" not in told


async def test_errors_come_with_their_wait() -> None:
    async with anthropic_server() as server:
        with pytest.raises(Refusal) as wrong_key:
            await ask(server, body(), key="sk-other")
        assert (wrong_key.value.status, wrong_key.value.code) == (502, "provider_key_refused")
        server.status = 529
        with pytest.raises(Refusal) as overloaded:
            await ask(server, body())
        assert (overloaded.value.status, overloaded.value.headers) == (503, {"retry-after": "7"})
        assert server.asked
