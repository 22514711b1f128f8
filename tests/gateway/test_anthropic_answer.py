"""Whole answers of Anthropic, and its errors, as OpenAI's callers know them."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.gateway.anthropic.answer import Envelope, completion, envelope
from inference_service.gateway.anthropic.failures import Garbage, refusal
from inference_service.gateway.anthropic.usage import MOST_TOKENS, Usage
from tests.gateway.anthropic_server import message

chat = pytest.importorskip("openai.types.chat")

AROUND = Envelope("chatcmpl-1", 1700000000, "claude")
TEXT = {"type": "text", "text": "Hello"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"place": "Ulm"}}


def told(whole: dict[str, Any], around: Envelope = AROUND) -> Any:
    answer = completion(orjson.dumps(whole), around)
    read = chat.ChatCompletion.model_validate_json(answer.content, strict=True)
    assert read.choices[0].finish_reason == answer.finish_reason
    assert (read.id, read.created, read.model) == (around.id, around.created, around.model)
    return read


def test_words() -> None:
    answer = told(message([TEXT, {"type": "text", "text": " there."}]))
    said = answer.choices[0].message
    assert (said.role, said.content, said.refusal, said.tool_calls) == ("assistant", "Hello there.", None, None)


def test_calls() -> None:
    answer = told(message([TEXT, CALL, {**CALL, "id": "toolu_2", "input": {}}], "tool_use"))
    calls = answer.choices[0].message.tool_calls
    assert [(call.id, call.type, call.function.name, call.function.arguments) for call in calls] == [
        ("toolu_1", "function", "weather", '{"place":"Ulm"}'),
        ("toolu_2", "function", "weather", "{}"),
    ]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert told(message([CALL], "tool_use")).choices[0].message.content is None


def test_who_asked_with_functions_is_answered_with_one() -> None:
    around = envelope({"model": "claude", "functions": [{"name": "weather"}]}, "chatcmpl-1", 1)
    answer = told(message([CALL], "tool_use"), around)
    said = answer.choices[0].message
    assert (said.function_call.name, said.function_call.arguments) == ("weather", '{"place":"Ulm"}')
    assert (said.tool_calls, answer.choices[0].finish_reason) == (None, "function_call")


def test_thoughts_are_told_apart_and_can_be_given_back() -> None:
    thoughts = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    said = told(message([*thoughts, TEXT])).choices[0].message
    assert (said.content, said.reasoning_content, said.thinking_blocks) == ("Hello", "Hm.", thoughts)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_why_it_stopped(reason: str, finish: str) -> None:
    assert told(message([TEXT], reason)).choices[0].finish_reason == finish


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "Not that."}
    said = told(message([], "refusal", stop_details=details)).choices[0].message
    assert (said.content, said.refusal) == ("", "Not that.")
    assert told(message([TEXT], "end_turn", stop_details=details)).choices[0].message.refusal is None


def test_the_cache_counts_as_prompt() -> None:
    usage = told(message([TEXT])).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (19, 7, 26)
    details = usage.prompt_tokens_details
    assert (details.cached_tokens, details.cache_write_tokens) == (5, 3)
    assert completion(orjson.dumps(message([TEXT])), AROUND).usage == Usage(11, 5, 3, 7)
    thinking = {"input_tokens": 1, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 6}}
    assert told(message([TEXT], usage=thinking)).usage.completion_tokens_details.reasoning_tokens == 6


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"[]",
        b"{}",
        orjson.dumps({"type": "error", "error": {}}),
        orjson.dumps({**message([TEXT]), "content": "Hello"}),
        orjson.dumps(message([5])),  # type: ignore[list-item]
        orjson.dumps(message([{"type": "text"}])),
        orjson.dumps(message([{**CALL, "input": "x"}])),
        orjson.dumps(message([{**CALL, "id": None}])),
        orjson.dumps(message([TEXT], None)),  # type: ignore[arg-type]
        orjson.dumps(message([TEXT], usage=5)),
        orjson.dumps(message([TEXT], usage={"input_tokens": -1})),
        orjson.dumps(message([TEXT], usage={"output_tokens": True})),
        orjson.dumps(message([TEXT], usage={"output_tokens": MOST_TOKENS + 1})),
        orjson.dumps(message([])).replace(b"[]", b'[{"type":"tool_use","id":"a","name":"b","input":' + b'{"a":' * 300
                                          + b"1" + b"}" * 300 + b"}]"),
    ],
)  # fmt: skip
def test_what_is_no_message_is_garbage(body: bytes) -> None:
    with pytest.raises(Garbage):
        completion(body, AROUND)


@pytest.mark.parametrize(
    ("status", "kind", "becomes", "code"),
    [
        (400, "invalid_request_error", 400, "provider_refused"),
        (401, "authentication_error", 502, "provider_key_refused"),
        (402, "billing_error", 502, "provider_billing"),
        (403, "permission_error", 502, "provider_not_permitted"),
        (404, "not_found_error", 502, "provider_model_not_found"),
        (413, "request_too_large", 413, "body_too_large"),
        (429, "rate_limit_error", 429, "provider_rate_limit"),
        (500, "api_error", 502, "provider_failed"),
        (504, "timeout_error", 504, "provider_timeout"),
        (529, "overloaded_error", 503, "provider_overloaded"),
        (307, "moved", 502, "provider_failed"),
    ],
)
def test_errors(status: int, kind: str, becomes: int, code: str) -> None:
    body = orjson.dumps({"type": "error", "error": {"type": kind, "message": "It is so."}, "request_id": "r"})
    error = refusal(status, body, "7")
    assert (error.status, error.code, error.headers) == (becomes, code, {"retry-after": "7"})
    assert orjson.loads(error.content)["error"]["message"] == "From the model's provider: It is so."


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 5}', b'{"error": {"message": {}}}', b"\xff"])
def test_errors_of_whoever_stands_between(body: bytes) -> None:
    error = refusal(503, body, "Wed, 21 Oct\r\nx: y")
    assert (error.status, error.headers) == (503, {})
    assert error.message.endswith("It answered 503 and gave no reason.")
    long = refusal(400, orjson.dumps({"error": {"message": "x" * 100_000}}))
    assert len(long.content) < 3_000


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
block = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "thinking", "redacted_thinking", "new"]) | anything},
    optional=dict.fromkeys(("text", "id", "name", "thinking", "signature"), st.text() | anything)
    | {"input": st.dictionaries(st.text(max_size=3), anything) | anything},
)


@settings(deadline=None)
@given(
    st.lists(block | anything, max_size=4) | anything,
    st.sampled_from(["end_turn", "tool_use", "refusal"]) | anything,
    st.dictionaries(st.sampled_from(["input_tokens", "output_tokens", "output_tokens_details"]), anything) | anything,
    anything,
)
def test_whatever_comes_is_an_answer_or_garbage(content: Any, reason: Any, usage: Any, details: Any) -> None:
    try:
        told(message(content, reason, usage=usage, stop_details=details))
    except Garbage:
        return


@settings(deadline=None)
@given(st.integers(200, 599), st.binary(max_size=40) | st.builds(orjson.dumps, anything), st.text(max_size=10))
def test_whatever_fails_is_an_error_of_openai(status: int, body: bytes, wait: str) -> None:
    error = refusal(status, body, wait)
    assert 400 <= error.status < 600
    assert orjson.loads(error.content)["error"]["message"]
