"""Checking conversations: who speaks when, and whether tool calls can be read."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from analyzer_service.reading import Fault

SHAREGPT_ASKS = frozenset({"human", "user", "observation", "tool"})
SHAREGPT_SAYS = frozenset({"gpt", "assistant", "function_call"})
OPENAI_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def sharegpt_faults(turns: Any, *, complete: bool = True) -> Iterator[Fault]:
    """`from` and `value`; asking and saying take turns, and the model has the last word."""
    if not isinstance(turns, list):
        yield Fault("wrong_type", "`conversations` must be a list of turns.")
        return
    if not turns:
        yield Fault("no_turns", "`conversations` is empty.")
        return
    asking = True
    for number, turn in enumerate(turns, 1):
        fault = _sharegpt_turn(number, turn)
        if fault is not None:
            yield fault
            return
        role = turn["from"]
        if role == "system":
            if number != 1:
                yield Fault("misplaced_system", f"Turn {number}: a system turn can only be the first.")
                return
            continue
        if (role in SHAREGPT_ASKS) != asking:
            expected = "human or observation" if asking else "gpt or function_call"
            yield Fault("roles_not_alternating", f"Turn {number} is {role!r}; expected {expected}.")
            return
        asking = not asking
    if complete and (not asking or turns[-1]["from"] == "system"):
        yield Fault("last_turn_not_assistant", "The last turn must be the model's (gpt or function_call).")


def _sharegpt_turn(number: int, turn: Any) -> Fault | None:
    if not isinstance(turn, Mapping):
        return Fault("wrong_type", f"Turn {number} must be an object with `from` and `value`.")
    role, value = turn.get("from"), turn.get("value")
    if role is None or "value" not in turn:
        missing = "from" if role is None else "value"
        return Fault("missing_field", f"Turn {number} has no `{missing}`.")
    if role not in SHAREGPT_ASKS | SHAREGPT_SAYS | {"system"}:
        return Fault("unknown_role", f"Turn {number}: there is no role {str(role)[:50]!r}.")
    if not isinstance(value, str):
        return Fault("wrong_type", f"Turn {number}: `value` must be text.")
    if not value.strip():
        return Fault("empty_turn", f"Turn {number} ({role}) is empty.")
    if role == "function_call":
        return _call_text(number, value)
    return None


def _call_text(number: int, value: str) -> Fault | None:
    try:
        calls = orjson.loads(value)
    except orjson.JSONDecodeError:
        return Fault("invalid_tool_call", f"Turn {number}: a function call must be JSON.")
    for call in calls if isinstance(calls, list) else [calls]:
        if not (isinstance(call, Mapping) and isinstance(call.get("name"), str) and "arguments" in call):
            return Fault("invalid_tool_call", f"Turn {number}: a function call needs `name` and `arguments`.")
    return None


def message_faults(messages: Any, *, complete: bool = True) -> Iterator[Fault]:
    """OpenAI messages: tool results answer tool calls, and the assistant has the last word."""
    if not isinstance(messages, list):
        yield Fault("wrong_type", "`messages` must be a list of messages.")
        return
    if not messages:
        yield Fault("no_turns", "`messages` is empty.")
        return
    open_calls: set[str] = set()
    calls_made = False
    before: str | None = None
    for number, message in enumerate(messages, 1):
        fault = _message(number, message)
        if fault is not None:
            yield fault
            return
        role = message["role"]
        if role in {"system", "developer"} and before not in {None, "system", "developer"}:
            yield Fault("misplaced_system", f"Message {number}: a {role} message can only come first.")
            return
        if role == before and role in {"user", "assistant"}:
            yield Fault("roles_not_alternating", f"Messages {number - 1} and {number} are both {role!r}.")
            return
        if role in {"tool", "function"}:
            wanted = message.get("tool_call_id")
            if not calls_made or (wanted is not None and wanted not in open_calls):
                yield Fault("tool_result_without_call", f"Message {number} answers a tool call that was not made.")
                return
        if role == "assistant":
            calls = message.get("tool_calls") or []
            calls_made = bool(calls) or bool(message.get("function_call"))
            open_calls = {call["id"] for call in calls if isinstance(call.get("id"), str)}
        before = role
    if complete and before != "assistant":
        yield Fault("last_turn_not_assistant", "The last message must be the assistant's.")


def _message(number: int, message: Any) -> Fault | None:
    if not isinstance(message, Mapping):
        return Fault("wrong_type", f"Message {number} must be an object with `role` and `content`.")
    role = message.get("role")
    if role is None:
        return Fault("missing_field", f"Message {number} has no `role`.")
    if role not in OPENAI_ROLES:
        return Fault("unknown_role", f"Message {number}: there is no role {str(role)[:50]!r}.")
    calls = message.get("tool_calls")
    content = message.get("content")
    if calls is not None:
        fault = _tool_calls(number, role, calls)
        if fault is not None:
            return fault
    if content is None and not calls and not message.get("function_call"):
        return Fault("missing_field", f"Message {number} ({role}) has no `content`.")
    if content is not None and not isinstance(content, str | list):
        return Fault("wrong_type", f"Message {number}: `content` must be text or a list of parts.")
    if isinstance(content, str) and not content.strip() and not calls and role in {"user", "assistant"}:
        return Fault("empty_turn", f"Message {number} ({role}) is empty.")
    return None


def _tool_calls(number: int, role: str, calls: Any) -> Fault | None:
    if role != "assistant":
        return Fault("invalid_tool_call", f"Message {number}: only the assistant calls tools.")
    if not isinstance(calls, list):
        return Fault("invalid_tool_call", f"Message {number}: `tool_calls` must be a list.")
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            return Fault("invalid_tool_call", f"Message {number}: a tool call needs `function.name`.")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = orjson.loads(arguments)
            except orjson.JSONDecodeError:
                arguments = None
        if not isinstance(arguments, Mapping):
            return Fault(
                "invalid_tool_call", f"Message {number}: the arguments of {function['name']!r} are not a JSON object."
            )
    return None


def tools_fault(tools: Any) -> Fault | None:
    """A list of tools, or that list as JSON text."""
    if isinstance(tools, str):
        if not tools.strip():
            return None
        try:
            tools = orjson.loads(tools)
        except orjson.JSONDecodeError:
            return Fault("invalid_tools", "`tools` is not valid JSON.")
    if tools is None:
        return None
    if not isinstance(tools, list):
        return Fault("invalid_tools", "`tools` must be a list.")
    for number, tool in enumerate(tools, 1):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            return Fault("invalid_tools", f"Tool {number} has no name.")
    return None
