"""The events of an answer as chunks of a chat.completion, as they come."""

from dataclasses import dataclass
from typing import Any

import orjson

from inference_service.gateway.anthropic.answer import Envelope, arguments, explanation, finish_reason, string
from inference_service.gateway.anthropic.events import Events
from inference_service.gateway.anthropic.failures import Garbage, refusal_midway
from inference_service.gateway.anthropic.usage import Usage
from inference_service.gateway.errors import Refusal

OPEN_BLOCKS = 64


@dataclass(slots=True)
class _Block:
    """`number`: which it is among the calls, or among the thoughts, of this answer."""

    kind: str
    number: int = 0
    given: Any = None
    spoke: bool = False


class Stream:
    """Fed with bytes as they come, gives bytes for the caller.

    finished       the answer came to its own end; while it is False, no caller may be told that it ended
    error          what Anthropic said instead of an end; nothing more comes then
    usage          what it took, as far as was told
    finish_reason  in OpenAI's words, once it is known
    """

    def __init__(self, around: Envelope) -> None:
        self.finished = False
        self.error: Refusal | None = None
        self.usage = Usage()
        self.finish_reason: str | None = None
        self._around = around
        self._events = Events()
        self._started = False
        self._open: dict[int, _Block] = {}
        self._calls = 0
        self._thoughts = 0
        self._refused: str | None = None
        told = {"id": around.id, "object": "chat.completion.chunk", "created": around.created, "model": around.model}
        self._head = b"data: " + orjson.dumps(told)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if around.include_usage else b"]}\n\n"

    def feed(self, piece: bytes) -> bytes:
        """Raises Garbage, and nothing else, where the bytes are no answer by Anthropic's grammar."""
        if self.finished or self.error is not None:
            return b""
        told: list[bytes] = []
        for data in self._events.feed(piece):
            try:
                event = orjson.loads(data)
            except orjson.JSONDecodeError:
                raise Garbage("an event is no JSON") from None
            if not isinstance(event, dict):
                raise Garbage("an event is no object")
            self._take(event, told)
            if self.finished or self.error is not None:
                break
        return b"".join(told)

    def _take(self, event: dict[str, Any], told: list[bytes]) -> None:
        kind = event.get("type")
        if kind == "content_block_delta":
            self._grow(event, told)
        elif kind == "content_block_start":
            self._begin(event, told)
        elif kind == "content_block_stop":
            self._end(self._open.pop(self._block_number(event)), told)
        elif kind == "message_start":
            self._start(event, told)
        elif kind == "message_delta":
            self._stop(event)
        elif kind == "message_stop":
            self._finish(told)
        elif kind == "error":
            self.error = refusal_midway(event)
        elif not isinstance(kind, str):
            raise Garbage("an event has no type")

    def _start(self, event: dict[str, Any], told: list[bytes]) -> None:
        message = event.get("message")
        if self._started or not isinstance(message, dict):
            raise Garbage("the message starts twice, or is no object")
        self._started = True
        self.usage.take(message.get("usage"))
        told.append(self._chunk({"role": "assistant", "content": ""}))

    def _begin(self, event: dict[str, Any], told: list[bytes]) -> None:
        number, content = event.get("index"), event.get("content_block")
        if not self._started or not isinstance(number, int) or number in self._open or not isinstance(content, dict):
            raise Garbage("a block starts before its message, twice, or as no object")
        if len(self._open) >= OPEN_BLOCKS:
            raise Garbage("too many blocks are open at once")
        kind = string(content, "type")
        block = self._open[number] = _Block(kind)
        if kind == "tool_use":
            block.number, block.given = self._calls, content.get("input")
            self._calls += 1
            name = string(content, "name")
            self._call(block, told, {"name": name, "arguments": ""}, {"id": string(content, "id"), "type": "function"})
        elif kind in {"thinking", "redacted_thinking"}:
            block.number = self._thoughts
            self._thoughts += 1
            if kind == "redacted_thinking":
                told.append(self._chunk(_thought(block, "data", string(content, "data"))))
        elif kind == "text" and content.get("text"):
            told.append(self._chunk({"content": string(content, "text")}))

    def _block_number(self, event: dict[str, Any]) -> int:
        number = event.get("index")
        if not isinstance(number, int) or number not in self._open:
            raise Garbage("an event belongs to no open block")
        return number

    def _grow(self, event: dict[str, Any], told: list[bytes]) -> None:
        block, delta = self._open[self._block_number(event)], event.get("delta")
        if not isinstance(delta, dict):
            raise Garbage("a delta is no object")
        kind = delta.get("type")
        if kind == "text_delta":
            told.append(self._chunk({"content": string(delta, "text")}))
        elif kind == "input_json_delta" and block.kind == "tool_use":
            if piece := string(delta, "partial_json"):
                block.spoke = True
                self._call(block, told, {"arguments": piece})
        elif kind == "thinking_delta":
            thought = string(delta, "thinking")
            told.append(self._chunk({"reasoning_content": thought, **_thought(block, "thinking", thought)}))
        elif kind == "signature_delta":
            told.append(self._chunk(_thought(block, "signature", string(delta, "signature"))))

    def _end(self, block: _Block, told: list[bytes]) -> None:
        if block.kind == "tool_use" and not block.spoke:
            self._call(block, told, {"arguments": arguments(block.given)})

    def _call(
        self, block: _Block, told: list[bytes], function: dict[str, str], first: dict[str, str] | None = None
    ) -> None:
        if not self._around.single_call:
            call = {"index": block.number, **(first or {}), "function": function}
            told.append(self._chunk({"tool_calls": [call]}))
        elif block.number == 0:
            told.append(self._chunk({"function_call": function}))

    def _stop(self, event: dict[str, Any]) -> None:
        delta = event.get("delta")
        if not self._started or not isinstance(delta, dict):
            raise Garbage("the message changes before it starts, or by no object")
        self.usage.take(event.get("usage"))
        if delta.get("stop_reason") is not None:
            self.finish_reason = finish_reason(string(delta, "stop_reason"), self._around)
            self._refused = explanation(delta)

    def _finish(self, told: list[bytes]) -> None:
        if self._open or self.finish_reason is None:
            raise Garbage("the message ends with a block open, or without a reason")
        if self._refused:
            told.append(self._chunk({"refusal": self._refused}))
        told.append(self._chunk({}, self.finish_reason))
        if self._around.include_usage:
            told.append(self._head + b'],"usage":' + orjson.dumps(self.usage.as_openai()) + b"}\n\n")
        told.append(b"data: [DONE]\n\n")
        self.finished = True

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._head + orjson.dumps(choice) + self._tail


def _thought(block: _Block, name: str, piece: str) -> dict[str, Any]:
    """Numbered, as lists in deltas are, so that OpenAI's client joins the pieces."""
    return {"thinking_blocks": [{"index": block.number, "type": block.kind, name: piece}]}
