"""A row as its registry describes it, rewritten as the platform knows it.

What is missing or misshapen stays so: the platform checks every row and says what is wrong with it. Unlike
LLaMA-Factory's, the formatting `openai` adds nothing to a system prompt.
"""

import contextlib
import json
from typing import Any

from imts_cli.registries.entries import Entry

Row = dict[str, Any]

_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
_ALWAYS = {"system": "system", "tools": "tools"}
_BETWEEN_RESULTS = "\n</tool_response>\n<tool_response>\n"


def rewritten(row: Any, entry: Entry) -> Any:
    if not isinstance(row, dict):
        return row
    if entry.form == "text":
        return _text(row, entry)
    if entry.formatting == "alpaca":
        found = _renamed(row, entry, _ALPACA | _ALWAYS)
        answers = _renamed(row, entry, {"chosen": "chosen", "rejected": "rejected"})
    else:
        found = _renamed(row, entry, _ALWAYS)
        turns = row.get(entry.columns["messages"])
        if turns is not None:
            found["conversations"] = _turns(turns, entry)
        pair = _renamed(row, entry, {"chosen": "chosen", "rejected": "rejected"})
        answers = {name: _turn(turn, entry) for name, turn in pair.items()}
    if entry.form == "kto":
        found["kto_tag"] = row.get(entry.columns["kto_tag"])
    elif entry.form == "preference":
        found.pop("output", None)
        found |= answers
    return found


def _renamed(row: Row, entry: Entry, names: dict[str, str]) -> Row:
    """Empty fields are left out: a file of columns has them in each row."""
    found = {}
    for name, ours in names.items():
        value = row.get(entry.columns.get(name, ""))
        if value is not None and not (value == "" and name in ("query", "system", "tools", "history")):
            found[ours] = value
    return found


def _text(row: Row, entry: Entry) -> Row:
    parts = [row.get(entry.columns[name]) for name in ("prompt", "query") if name in entry.columns]
    texts = [part for part in parts if isinstance(part, str) and part]
    if any(part is not None and not isinstance(part, str) for part in parts):
        return {"text": next(part for part in parts if part is not None and not isinstance(part, str))}
    return {"text": "\n".join(texts)} if texts else {}


def _turns(turns: Any, entry: Entry) -> Any:
    if not isinstance(turns, list):
        return turns
    found: list[Any] = []
    for turn in turns:
        now = _turn(turn, entry)
        if entry.formatting == "openai" and _follows_result(found, now):
            found[-1]["value"] += _BETWEEN_RESULTS + now["value"]
        else:
            found.append(now)
    return found


def _follows_result(before: list[Any], turn: Any) -> bool:
    """OpenAI answers each call of a turn with a message of its own; ShareGPT has one for all."""
    both = [*before[-1:], turn]
    return len(both) == 2 and all(
        isinstance(one, dict) and one.get("from") == "observation" and isinstance(one.get("value"), str) for one in both
    )


def _turn(turn: Any, entry: Entry) -> Any:
    if not isinstance(turn, dict):
        return turn
    role, value = turn.get(entry.role), turn.get(entry.content)
    said = entry.speakers.get(role, role) if isinstance(role, str) else role
    if entry.formatting == "openai":
        calls = turn.get("tool_calls")
        if said in ("gpt", "function_call") and isinstance(calls, list) and calls:
            return {"from": "function_call", "value": json.dumps(_calls(calls), ensure_ascii=False)}
        value = _joined(value)
    return {"from": said, "value": value}


def _calls(calls: list[Any]) -> Any:
    told = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else call
        if isinstance(function, dict):
            function = {name: function[name] for name in ("name", "arguments") if name in function}
            if isinstance(function.get("arguments"), str):
                with contextlib.suppress(ValueError):
                    function["arguments"] = json.loads(function["arguments"])
        told.append(function)
    return told[0] if len(told) == 1 else told


def _joined(content: Any) -> Any:
    """The parts of a message's content, if all are text."""
    if isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    ):
        return "".join(part["text"] for part in content)
    return content
