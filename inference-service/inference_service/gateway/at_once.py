"""An answer that came whole, told as the stream that was asked for: some upstreams know no other."""

from collections.abc import Iterator
from typing import Any

import orjson

from inference_service.gateway.answers import Garbled
from inference_service.gateway.orders import CHAT

COMPLETIONS = "/v1/completions"
STREAMED = frozenset({CHAT, COMPLETIONS, "/v1/responses"})
"""Paths whose callers read events where they ask for a stream."""

Members = dict[str, Any]


def as_stream(body: bytes, path: str, *, with_usage: bool) -> bytes:
    """Raises Garbled where it cannot be told so."""
    content = orjson.loads(body)
    choices = content.get("choices")
    if path not in (CHAT, COMPLETIONS) or not isinstance(choices, list):
        raise Garbled("a whole answer where a stream was asked for")
    around = {name: value for name, value in content.items() if name not in ("choices", "usage")}
    if path == CHAT:
        around["object"] = "chat.completion.chunk"
    unsaid = {"usage": None} if with_usage else {}
    chunks = [
        {**around, "choices": [one], **unsaid}
        for choice in choices
        for one in (_chat(choice) if path == CHAT else [_known(choice)])
    ]
    if with_usage and content.get("usage") is not None:
        chunks.append({**around, "choices": [], "usage": content["usage"]})
    try:
        return b"".join([b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks]) + b"data: [DONE]\n\n"
    except orjson.JSONEncodeError:
        raise Garbled("an answer that is nested too deeply") from None


def _chat(choice: Any) -> Iterator[Members]:
    """What it says, and then why it ends."""
    choice = _known(choice)
    message = _known(choice.get("message"))
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        message = {**message, "tool_calls": [{"index": at, **_known(call)} for at, call in enumerate(calls)]}
    rest = {name: value for name, value in choice.items() if name != "message"}
    yield {**rest, "delta": message, "finish_reason": None}
    yield {"index": choice.get("index", 0), "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}


def _known(given: Any) -> Members:
    if not isinstance(given, dict):
        raise Garbled("a choice of an answer that is none")
    return given
