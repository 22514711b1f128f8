"""What of a request is kept where a project wants that: who asked what when, or what was said as well, redacted."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from imts_shared.contracts.access import RequestLog
from inference_service.gateway import responses
from inference_service.gateway.counting import Tokens
from inference_service.gateway.orders import Order
from inference_service.gateway.redaction import redacted_content

ENTRY_BYTES = 500
LARGEST = 256 * 2**10
LARGEST_STREAM = 2**20
"""Bytes of a request, and of an answer, whose events are many times what they say; of larger ones only the metadata is
kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """As it happened; what is kept of it is worked out beside the requests that run."""

    about: dict[str, Any]
    path: str
    content: dict[str, Any] | None
    answer: bytes | None
    size: int

    def made(self) -> bytes:
        """A LoggedRequest, as JSON."""
        content = self.content
        if content is None and self.answer is None:
            return orjson.dumps(self.about)
        if content is not None and self.path == responses.PATH:
            content = responses.as_chat(content)
        request = None if content is None else redacted_content(content)
        answer = redacted_content(message(self.answer)) if self.answer else None
        return orjson.dumps({**self.about, "request": request, "answer": answer})


def entry(level: RequestLog, about: dict[str, Any], tokens: Tokens, order: Order, answer: bytes | None) -> Entry:
    size = len(order.body)
    full = level == RequestLog.full
    told = {**about, "at": datetime.now(UTC), "inputTokens": tokens.input, "outputTokens": tokens.output}
    kept = answer if full and answer and len(answer) <= (LARGEST_STREAM if order.stream else LARGEST) else None
    content_kept = order.content if full and size <= LARGEST else None
    return Entry(told, order.path, content_kept, kept, ENTRY_BYTES + (size if content_kept else 0) + len(kept or b""))


def message(answer: bytes) -> dict[str, Any] | None:
    """The first choice's message, or what a response says and calls: of a whole answer, or put together again out of a
    stream's events."""
    try:
        if not answer.lstrip().startswith((b"data:", b":", b"event:")):
            return _whole(orjson.loads(answer))
        events = [orjson.loads(line[5:]) for line in answer.splitlines() if line.startswith((b"data: {", b"data:{"))]
        if any(str(event.get("type", "")).startswith("response.") for event in events[:1]):
            return responses.of_events(events)
        return _of_events(events)
    except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError, IndexError):
        return None


def _whole(content: dict[str, Any]) -> dict[str, Any] | None:
    if isinstance(content.get("output"), list):
        return responses.message(content)
    choice = content["choices"][0]
    found = choice["message"] if "message" in choice else {"role": "assistant", "content": choice["text"]}
    return found if isinstance(found, dict) else None


def _of_events(events: list[dict[str, Any]]) -> dict[str, Any]:
    text: list[str] = []
    calls: dict[int, dict[str, Any]] = {}
    for event in events:
        for choice in event.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {"content": choice.get("text")}
            text.append(delta.get("content") or "")
            for part in delta.get("tool_calls") or ():
                call = calls.setdefault(
                    part.get("index", 0), {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
                )
                call["id"] = part.get("id") or call["id"]
                for name in ("name", "arguments"):
                    call["function"][name] += (part.get("function") or {}).get(name) or ""
    found: dict[str, Any] = {"role": "assistant", "content": "".join(text)}
    if calls:
        found["tool_calls"] = [calls[index] for index in sorted(calls)]
    return found
