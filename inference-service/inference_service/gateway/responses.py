"""What was asked and answered over /v1/responses, as messages of a chat: so it is kept, and so data sets take it."""

from collections.abc import Iterable, Mapping
from typing import Any

PATH = "/v1/responses"
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXTS = frozenset({"input_text", "output_text", "text"})
_THOUGHTS = frozenset({"reasoning"})
_AS_MESSAGES = frozenset({"input", "instructions", "tools"})

Message = dict[str, Any]


class _Unsayable(Exception):
    """A chat has nothing like it."""


def as_chat(content: Mapping[str, Any]) -> dict[str, Any]:
    """With `messages` in place of `input` and `instructions`; as it came where it refers to what is not in it, or to
    what no chat has."""
    if content.get("previous_response_id") or content.get("conversation") or content.get("prompt"):
        return dict(content)
    try:
        messages = [*_instructions(content.get("instructions")), *_messages(content.get("input"))]
        tools = [_tool(one) for one in content.get("tools") or ()]
    except (_Unsayable, AttributeError, KeyError, TypeError):
        return dict(content)
    rest = {name: value for name, value in content.items() if name not in _AS_MESSAGES}
    return {**rest, "messages": messages, **({"tools": tools} if tools else {})}


def _instructions(told: Any) -> Iterable[Message]:
    return [{"role": "system", "content": told}] if isinstance(told, str) and told else []


def _messages(given: Any) -> list[Message]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise _Unsayable
    found: list[Message] = []
    for item in given:
        kind = item.get("type") or "message"
        if kind == "message":
            found.append({"role": _ROLES[item["role"]], "content": _content(item["content"])})
        elif kind == "function_call":
            _add_call(found, item)
        elif kind == "function_call_output":
            found.append({"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"])})
        elif kind not in _THOUGHTS:
            raise _Unsayable
    return found


def _add_call(messages: list[Message], item: Mapping[str, Any]) -> None:
    """Calls belong to the turn that they were made in."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    messages[-1].setdefault("tool_calls", []).append(_call(item))


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _content(given: Any) -> Any:
    """Text alone as text; else the parts that a chat has."""
    if isinstance(given, str):
        return given
    if all(part["type"] in _TEXTS for part in given):
        return "".join(part["text"] for part in given)
    return [_part(part) for part in given]


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] in _TEXTS:
        return {"type": "text", "text": part["text"]}
    if part["type"] == "input_image" and part.get("image_url"):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    raise _Unsayable


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool["type"] != "function":
        raise _Unsayable
    kept = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in kept if tool.get(name) is not None}}


def message(content: Mapping[str, Any]) -> Message | None:
    """Of a whole answer: its text and its calls."""
    return _said(content["output"])


def of_events(events: Iterable[Mapping[str, Any]]) -> Message | None:
    """The last event tells the whole again; of a stream without it, what was said until then."""
    done: list[Any] = []
    text: list[str] = []
    for event in events:
        kind = event.get("type")
        if kind == "response.output_text.delta":
            text.append(event["delta"])
        elif kind == "response.output_item.done":
            done.append(event["item"])
        elif kind in {"response.completed", "response.incomplete"} and event["response"].get("output"):
            return _said(event["response"]["output"])
    return _said(done) or ({"role": "assistant", "content": "".join(text)} if text else None)


def _said(output: Iterable[Mapping[str, Any]]) -> Message | None:
    text: list[str] = []
    calls: list[dict[str, Any]] = []
    for item in output:
        if item.get("type") == "message":
            text += [part["text"] for part in item["content"] if part.get("type") == "output_text"]
        elif item.get("type") == "function_call":
            calls.append(_call(item))
    if not text and not calls:
        return None
    return {"role": "assistant", "content": "".join(text), **({"tool_calls": calls} if calls else {})}
