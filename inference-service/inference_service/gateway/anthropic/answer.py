"""A whole answer as a chat.completion."""

from dataclasses import dataclass
from typing import Any

import orjson

from inference_service.gateway.anthropic.failures import Garbage
from inference_service.gateway.anthropic.usage import Usage

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "refusal": "content_filter",
}
"""A paused turn is not whole: `length` is what OpenAI's callers take for that. A reason that is new is `stop`."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an answer says around its content. `single_call`: the caller speaks of `functions`, as was done before
    `tools`, and is answered in that form, which has room for one call."""

    id: str
    created: int
    model: str
    include_usage: bool = False
    single_call: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    content: bytes
    usage: Usage
    finish_reason: str


def envelope(content: dict[str, Any], identity: str, created: int) -> Envelope:
    """For the answer to this body. The model is called what the caller called it."""
    options = content.get("stream_options")
    usage = isinstance(options, dict) and options.get("include_usage") is True
    return Envelope(identity, created, str(content.get("model")), usage, bool(content.get("functions")))


def completion(body: bytes, around: Envelope) -> Answer:
    """Raises Garbage, and nothing else, where the body is no message by Anthropic's grammar."""
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Garbage("the answer is no JSON") from None
    if not isinstance(message, dict) or message.get("type") != "message":
        raise Garbage("the answer is no message")
    if not isinstance(message.get("stop_reason"), str):
        raise Garbage("the answer gives no reason why it stops")
    usage = Usage()
    usage.take(message.get("usage"))
    reason = finish_reason(message["stop_reason"], around)
    choice = {"index": 0, "message": _message(message, around), "logprobs": None, "finish_reason": reason}
    told = {
        "id": around.id,
        "object": "chat.completion",
        "created": around.created,
        "model": around.model,
        "choices": [choice],
        "usage": usage.as_openai(),
    }
    try:
        return Answer(orjson.dumps(told), usage, reason)
    except orjson.JSONEncodeError:
        raise Garbage("the answer is nested too deeply") from None


def finish_reason(stop_reason: str, around: Envelope) -> str:
    reason = _FINISHES.get(stop_reason, "stop")
    return "function_call" if around.single_call and reason == "tool_calls" else reason


def explanation(stopped: dict[str, Any]) -> str | None:
    """Why the model refused, where it says so."""
    details = stopped.get("stop_details")
    words = details.get("explanation") if isinstance(details, dict) else None
    return words if isinstance(words, str) and stopped.get("stop_reason") == "refusal" else None


def string(block: dict[str, Any], name: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise Garbage(f"{name} is no string")
    return value


def arguments(given: object) -> str:
    if not isinstance(given, dict):
        raise Garbage("the input of a call is no object")
    try:
        return orjson.dumps(given).decode()
    except orjson.JSONEncodeError:
        raise Garbage("the input of a call is nested too deeply") from None


def _message(message: dict[str, Any], around: Envelope) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        raise Garbage("the content is no list")
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[dict[str, Any]] = []
    for block in content:
        if not isinstance(block, dict):
            raise Garbage("a block is no object")
        match block.get("type"):
            case "text":
                texts.append(string(block, "text"))
            case "tool_use":
                function = {"name": string(block, "name"), "arguments": arguments(block.get("input"))}
                calls.append({"id": string(block, "id"), "type": "function", "function": function})
            case "thinking" | "redacted_thinking":
                thoughts.append(block)
    told: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": explanation(message),
    }
    if calls and around.single_call:
        told["function_call"] = calls[0]["function"]
    elif calls:
        told["tool_calls"] = calls
    if thoughts:
        told["reasoning_content"] = "".join(string(b, "thinking") for b in thoughts if b["type"] == "thinking")
        told["thinking_blocks"] = thoughts
    return told
