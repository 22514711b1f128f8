"""Checking conversations: who speaks when, and whether tool calls can be read.

The order is the one that LLaMA-Factory takes: asking and answering by turns, results of tools on the asking side.
It drops any other conversation without a word.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from analyzer_service.inspect.tools import call_text_fault, tool_calls_fault
from analyzer_service.reading import Fault

SHAREGPT_RESULTS = frozenset({"observation", "tool"})
SHAREGPT_ASKS = frozenset({"human", "user"}) | SHAREGPT_RESULTS
SHAREGPT_SAYS = frozenset({"gpt", "assistant", "function_call"})
OPENAI_SYSTEM = frozenset({"system", "developer"})
OPENAI_RESULTS = frozenset({"tool", "function"})
OPENAI_ROLES = OPENAI_SYSTEM | OPENAI_RESULTS | {"user", "assistant"}


def sharegpt_faults(turns: Any, *, complete: bool = True, continues: bool = False) -> Iterator[Fault]:
    """`complete`: the model has the last word, else the one who asks. `continues`: they begin with the model's turn."""
    if not isinstance(turns, list):
        yield Fault("wrong_type", "The conversation must be a list of turns.")
        return
    if not turns:
        yield Fault("no_turns", "The conversation has no turns.")
        return
    asking = not continues
    before = ""
    for number, turn in enumerate(turns, 1):
        fault = _sharegpt_turn(number, turn)
        if fault is not None:
            yield fault
            return
        role = turn["from"]
        if role == "system":
            if number != 1 or continues:
                yield Fault("misplaced_system", f"Turn {number}: a system turn can only be the first.")
                return
            continue
        if role in SHAREGPT_RESULTS and before != "function_call":
            yield Fault("tool_result_without_call", f"Turn {number} ({role}) must follow a function_call.")
            return
        if (role in SHAREGPT_ASKS) != asking:
            expected = "human or observation" if asking else "gpt or function_call"
            yield Fault("roles_not_alternating", f"Turn {number} is {role!r}; expected {expected}.")
            return
        asking = not asking
        before = role
    yield from _ending(complete, before in SHAREGPT_SAYS, "gpt or function_call", "human or observation")


def _ending(complete: bool, said: bool, answer: str, question: str) -> Iterator[Fault]:
    if complete and not said:
        yield Fault("last_turn_not_assistant", f"The last turn must be the model's ({answer}).")
    if not complete and said:
        yield Fault("last_turn_not_user", f"The last turn must be the one that is answered ({question}).")


def _sharegpt_turn(number: int, turn: Any) -> Fault | None:
    if not isinstance(turn, Mapping):
        return Fault("wrong_type", f"Turn {number} must be an object with `from` and `value`.")
    role, value = turn.get("from"), turn.get("value")
    if role is None or value is None:
        missing = "from" if role is None else "value"
        return Fault("missing_field", f"Turn {number} has no `{missing}`.")
    if not isinstance(role, str) or role not in SHAREGPT_ASKS | SHAREGPT_SAYS | {"system"}:
        return Fault("unknown_role", f"Turn {number}: there is no role {str(role)[:50]!r}.")
    if not isinstance(value, str):
        return Fault("wrong_type", f"Turn {number}: `value` must be text.")
    if not value.strip():
        return Fault("empty_turn", f"Turn {number} ({role}) is empty.")
    if role == "function_call":
        return call_text_fault(number, value)
    return None


def message_faults(messages: Any, *, complete: bool = True, continues: bool = False) -> Iterator[Fault]:
    """OpenAI messages; `complete` and `continues` as above. One answer may call several tools."""
    if not isinstance(messages, list):
        yield Fault("wrong_type", "The conversation must be a list of messages.")
        return
    if not messages:
        yield Fault("no_turns", "The conversation has no messages.")
        return
    asking = not continues
    called: set[str] | None = None
    before = ""
    for number, message in enumerate(messages, 1):
        fault = _message(number, message)
        if fault is not None:
            yield fault
            return
        role = message["role"]
        if role in OPENAI_SYSTEM:
            if number != 1 or continues:
                yield Fault("misplaced_system", f"Message {number}: a {role} message can only be the first.")
                return
            continue
        if role in OPENAI_RESULTS:
            wanted = message.get("tool_call_id")
            if called is None or not (wanted is None or wanted in called):
                yield Fault("tool_result_without_call", f"Message {number} answers a tool call that was not made.")
                return
            asking = False
        elif (role == "user") != asking:
            expected = "user" if asking else "assistant"
            yield Fault("roles_not_alternating", f"Message {number} is {role!r}; expected {expected!r}.")
            return
        else:
            asking = not asking
            called = _called(message) if role == "assistant" else None
        before = role
    yield from _ending(complete, before == "assistant", "assistant", "user or tool")


def _called(message: Mapping[str, Any]) -> set[str] | None:
    """The calls that may be answered now: None when there are none."""
    calls = message.get("tool_calls") or []
    if not calls and not message.get("function_call"):
        return None
    return {call["id"] for call in calls if isinstance(call.get("id"), str)}


def _message(number: int, message: Any) -> Fault | None:
    if not isinstance(message, Mapping):
        return Fault("wrong_type", f"Message {number} must be an object with `role` and `content`.")
    role = message.get("role")
    if role is None:
        return Fault("missing_field", f"Message {number} has no `role`.")
    if not isinstance(role, str) or role not in OPENAI_ROLES:
        return Fault("unknown_role", f"Message {number}: there is no role {str(role)[:50]!r}.")
    calls = message.get("tool_calls")
    if calls:
        fault = tool_calls_fault(number, role, calls)
        if fault is not None:
            return fault
    if role in OPENAI_RESULTS and not isinstance(message.get("tool_call_id"), str | None):
        return Fault("wrong_type", f"Message {number}: `tool_call_id` must be text.")
    return _content(number, role, message.get("content"), called=bool(calls or message.get("function_call")))


def _content(number: int, role: str, content: Any, *, called: bool) -> Fault | None:
    if content is None:
        return None if called else Fault("missing_field", f"Message {number} ({role}) has no `content`.")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
                return Fault("wrong_type", f"Message {number}: every part of `content` needs a `type`.")
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                return Fault("wrong_type", f"Message {number}: a part of type text needs `text`.")
    elif not isinstance(content, str):
        return Fault("wrong_type", f"Message {number}: `content` must be text or a list of parts.")
    empty = not (content.strip() if isinstance(content, str) else content)
    if empty and not called and role in {"user", "assistant"}:
        return Fault("empty_turn", f"Message {number} ({role}) is empty.")
    return None
