"""Rows of every format that the platform knows, brought into the one form that training reads.

{"conversations": [{"from": "human" | "gpt" | "function_call" | "observation", "value": text}],
 "system": text, "tools": JSON text}        and with preferences "chosen" and "rejected" (a turn each),
                                            with feedback "label", for pretraining {"text": text} alone.
"""

import contextlib
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

Row = dict[str, Any]
Turn = dict[str, str]

_FROM = {
    "human": "human",
    "user": "human",
    "gpt": "gpt",
    "assistant": "gpt",
    "function_call": "function_call",
    "observation": "observation",
    "tool": "observation",
    "function": "observation",
    "system": "system",
    "developer": "system",
}


def read(path: Path, file_type: str) -> Iterator[Row]:
    """The file's rows, one at a time; a JSON array alone is read as a whole."""
    match file_type:
        case "jsonl":
            with path.open("rb") as file:
                for line in file:
                    if line.strip():
                        yield orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
        case "json":
            yield from orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        case "csv":
            csv.field_size_limit(2**31 - 1)
            with path.open(encoding="utf-8-sig", newline="") as text:
                for row in csv.DictReader(text):
                    yield {name: _cell(value) for name, value in row.items() if name is not None}
        case _:
            from pyarrow import parquet

            for batch in parquet.ParquetFile(path).iter_batches(batch_size=1_000):
                yield from batch.to_pylist()


def _cell(value: str | None) -> Any:
    """A conversation or a flag in a CSV cell is JSON; all else is text."""
    if value and (value[0] in "[{" or value in ("true", "false")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def canonical(row: Row, form: str) -> Row:
    if form == "text":
        return {"text": row["text"]}
    turns = _question(row, form)
    after: Row = {}
    if form == "preference":
        after = {name: _one_turn(row[name], turns) for name in ("chosen", "rejected")}
    elif form == "kto":
        after["label"] = bool(row["kto_tag"] if "kto_tag" in row else row["label"])
    system, turns = _system_apart(turns, row.get("system"))
    return {"conversations": turns, "system": system, "tools": _tools(row.get("tools")), **after}


def as_text(row: Row) -> str:
    """A canonical row as plain text, for pretraining on conversations."""
    if "text" in row:
        return str(row["text"])
    said = [turn["value"] for turn in row["conversations"]]
    return "\n\n".join(part for part in (row["system"], *said, row.get("chosen", {}).get("value")) if part)


def _question(row: Row, form: str) -> list[Turn]:
    if row.get("conversations") is not None:
        turns = _turns(row["conversations"])
    elif row.get("messages") is not None:
        turns = _turns(row["messages"])
    elif isinstance(row.get("prompt"), list):
        turns = _turns(row["prompt"])
    elif row.get("prompt") is None and row.get("instruction") is None:
        turns = _turns(row["chosen"][:-1]) if isinstance(row.get("chosen"), list) else []
    else:
        turns = _history(row.get("history"))
        asked = row["prompt"] if row.get("prompt") is not None else row.get("instruction")
        turns.append({"from": "human", "value": "\n".join(str(part) for part in (asked, row.get("input")) if part)})
    answer = row.get("output") if row.get("output") is not None else row.get("completion")
    if form != "preference" and answer is not None and not (turns and turns[-1]["from"] in ("gpt", "function_call")):
        turns.append(_one_turn(answer, turns))
    return turns


def _history(history: Any) -> list[Turn]:
    turns = []
    for asked, answered in history or []:
        turns += [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}]
    return turns


def _one_turn(answer: Any, before: list[Turn]) -> Turn:
    if isinstance(answer, str):
        return {"from": "gpt", "value": answer}
    if isinstance(answer, dict):
        return _turns([answer])[0]
    return _turns(answer)[-1]


def _turns(turns: list[Row]) -> list[Turn]:
    """OpenAI messages and ShareGPT turns alike; the answers of several tools to one turn become one."""
    found: list[Turn] = []
    for turn in turns:
        role = _FROM[turn.get("from") or turn.get("role")]  # type: ignore[index]
        calls = turn.get("tool_calls")
        if calls:
            role, value = "function_call", _calls(calls)
        elif turn.get("function_call") and turn.get("from") is None:
            role, value = "function_call", _calls([{"function": turn["function_call"]}])
        else:
            value = _content(turn.get("value") if turn.get("from") else turn.get("content"))
        if role == "observation" and found and found[-1]["from"] == "observation":
            found[-1]["value"] += f"\n</tool_response>\n<tool_response>\n{value}"
        else:
            found.append({"from": role, "value": value})
    return found


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if part.get("type") == "text")
    return "" if content is None else str(content)


def _calls(calls: list[Row]) -> str:
    """Arguments that are text stay so only if they are not JSON: a template would write them as a quoted string."""
    told = []
    for call in calls:
        function = call.get("function", call)
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            with contextlib.suppress(ValueError):
                arguments = json.loads(arguments)
        told.append({"name": function.get("name"), "arguments": arguments})
    return json.dumps(told[0] if len(told) == 1 else told, ensure_ascii=False)


def _system_apart(turns: list[Turn], system: Any) -> tuple[str, list[Turn]]:
    if turns and turns[0]["from"] == "system":
        return turns[0]["value"], turns[1:]
    return str(system or ""), turns


def _tools(tools: Any) -> str:
    if not tools:
        return ""
    return tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
