"""The stand-in for Anthropic's server, and what is sent to it, held against Anthropic's own types.

Their package is none of this project's dependencies: these run where somebody has installed it.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest

from tests.gateway import anthropic_server as stand_in
from tests.gateway.anthropic_server import AnthropicServer, events, halves, message
from tests.gateway.test_anthropic_request import PIXEL, WEATHER, asked, call, calls, result

theirs = pytest.importorskip("anthropic")
types = importlib.import_module("anthropic.types")

PARAMS = {
    "text": "TextBlockParam",
    "image": "ImageBlockParam",
    "document": "DocumentBlockParam",
    "tool_use": "ToolUseBlockParam",
    "tool_result": "ToolResultBlockParam",
    "thinking": "ThinkingBlockParam",
    "redacted_thinking": "RedactedThinkingBlockParam",
}
FULL = [
    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "text", "text": "Let me see."},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"place": "Ulm"}},
]


def fields(name: str) -> set[str]:
    return set(getattr(types, name).__annotations__)


def test_the_stand_in_knows_no_field_that_they_do_not() -> None:
    params = importlib.import_module("anthropic.types.message_create_params")
    known = set(params.MessageCreateParamsStreaming.__annotations__)
    known |= set(params.MessageCreateParamsBase.__annotations__)
    assert known >= stand_in.REQUEST - stand_in.SAMPLING
    for kind, name in PARAMS.items():
        assert stand_in.BLOCKS[kind] <= fields(name), kind
    assert fields("ToolParam") >= stand_in.TOOL
    assert fields("ToolChoiceToolParam") == stand_in.CHOICE


def exhausted(value: Any) -> Any:
    """Their lists are checked only as they are read."""
    if isinstance(value, dict):
        return {key: exhausted(one) for key, one in value.items()}
    if isinstance(value, list | Iterator) or type(value).__name__ == "ValidatorIterator":
        return [exhausted(one) for one in value]
    return value


def test_requests_are_theirs() -> None:
    adapter: Any = pydantic.TypeAdapter(types.MessageCreateParams)
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}
    schema = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}}
    for told in (
        asked(),
        asked(image, calls(call()), result("call_1"), tools=[WEATHER], tool_choice="required", stream=True),
        asked(stop="END", user="team-7", reasoning_effort="xhigh", max_tokens=5),
        asked(thinking={"type": "enabled", "budget_tokens": 2048}, parallel_tool_calls=False, tools=[WEATHER]),
        asked(response_format={"type": "json_schema", "json_schema": {"schema": schema}}),
    ):
        assert exhausted(adapter.validate_python(told)) == told


def test_answers_are_theirs() -> None:
    for whole in (message([]), message(FULL, "tool_use"), message(FULL[2:3], "refusal", stop_details=None)):
        types.Message.model_validate(whole, strict=True)
        adapter: Any = pydantic.TypeAdapter(types.RawMessageStreamEvent)
        for event in events(whole, halves):
            if event["type"] != "ping":
                adapter.validate_python(event, strict=True)


async def test_their_own_client_reads_the_stand_in() -> None:
    async with stand_in.anthropic_server() as server:
        server.says = message(FULL, "tool_use")
        await _asked_by_their_client(server)


async def _asked_by_their_client(server: AnthropicServer) -> None:
    told = {"anthropic-version": "2023-06-01", "x-api-key": server.key}
    client = theirs.AsyncAnthropic(base_url=server.url, api_key=server.key, default_headers=told, max_retries=0)
    hello: Any = {
        "model": "claude-test",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    }
    async with client:
        whole = await client.messages.create(**hello)
        assert [block.type for block in whole.content] == [block["type"] for block in FULL]
        async with client.messages.stream(**hello) as stream:
            final = await stream.get_final_message()
        assert final.content[3].input == {"place": "Ulm"}
        assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 7)
        with pytest.raises(theirs.BadRequestError, match="max_tokens"):
            await client.messages.create(**{**hello, "max_tokens": -1})
