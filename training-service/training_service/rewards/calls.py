"""Tool calls read out of what a model wrote and out of the rows it learns from. Nothing here raises."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

LONGEST = 65_536
LONGEST_ANSWER = 4_194_304
MOST_CALLS = 64
MOST_FAILURES = 8
DEEPEST = 32

OPEN, CLOSE = "<tool_call>", "</tool_call>"
THINK, THOUGHT = "<think>", "</think>"

_START = re.compile(
    r"""(?:\[\s*)?\{\s*["'](?:name|arguments|parameters|function|function_call|tool_calls|type|id)["']"""
)
_SPACE = re.compile(r"\s*")
_CALL_LIKE = re.compile(r"""["'](?:arguments|parameters|function|tool_calls)["']""")

ANSWER_COLUMNS = ("expected", "messages", "conversations", "completion", "output", "answers")
ANSWERING = frozenset({"assistant", "gpt", "function_call"})


class Call(NamedTuple):
    name: str
    arguments: dict[str, Any]


class Reading(NamedTuple):
    """The calls of a text, and how many more it began without getting them right."""

    calls: tuple[Call, ...] = ()
    broken: int = 0


def read_calls(text: str, longest: int = LONGEST) -> Reading:
    """The calls a completion makes; what it thinks aloud beforehand is no call."""
    spoken = _spoken(text)[:longest]
    return _tagged(spoken) if OPEN in spoken and not _START.match(spoken) else _loose(spoken)


def expected_answer(row: Mapping[str, Any]) -> str:
    """What the row's last assistant turn says: its calls as a JSON list, otherwise its text."""
    for column in ANSWER_COLUMNS:
        value = row.get(column)
        if value is not None:
            return answer_text(value)
    return ""


def answer_text(value: Any) -> str:
    """The same for the one cell that holds the answer: a text, a call, calls, a message or messages."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _turn_text(value)
    if not isinstance(value, Sequence):
        return ""
    turns = [item for item in value if isinstance(item, Mapping)]
    if not any("role" in turn or "from" in turn for turn in turns):
        return _json(without_nulls(value))
    answering = [turn for turn in turns if (turn.get("role") or turn.get("from")) in ANSWERING]
    return _turn_text(answering[-1]) if answering else ""


def expected_calls(answer: Mapping[str, Any] | str) -> Reading:
    """The calls a row, or the answer taken from it, asks for."""
    text = answer if isinstance(answer, str) else expected_answer(answer)
    reading = read_calls(text, LONGEST_ANSWER)
    if reading.calls or not reading.broken:
        return reading
    return _python_literals(text) or reading


def calls_text(calls: Sequence[Call]) -> str:
    return _json([call._asdict() for call in calls])


def completion_text(completion: Any) -> str:
    """A completion as text, whether it came as text or as messages."""
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Mapping):
        return _turn_text(completion)
    if isinstance(completion, Sequence):
        return "\n".join(_turn_text(turn) for turn in completion if isinstance(turn, Mapping))
    return ""


def without_nulls(value: Any, depth: int = DEEPEST) -> Any:
    """Columnar files give every object all the keys of its neighbours, empty ones as null."""
    if depth == 0:
        return value
    if isinstance(value, Mapping):
        return {key: without_nulls(item, depth - 1) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item, depth - 1) for item in value]
    return value


def read_json(text: str) -> Any:
    """Strict JSON, or None: no NaN, no endless nesting."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _not_json(constant: str) -> NoReturn:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(parse_constant=_not_json)


def _spoken(text: str) -> str:
    text = text.lstrip()
    if text.startswith(OPEN) or _START.match(text):
        return text
    before, thought, after = text.partition(THOUGHT)
    if thought:
        return after.lstrip()
    return "" if before.startswith(THINK) else before


def _tagged(text: str) -> Reading:
    calls: list[Call] = []
    broken = failures = 0
    tag = text.find(OPEN)
    while tag >= 0 and len(calls) < MOST_CALLS and failures < MOST_FAILURES:
        found, end = _decode(text, _past_space(text, tag + len(OPEN)))
        after = _past_space(text, end)
        closed = end and (after == len(text) or text.startswith((CLOSE, OPEN), after))
        made = _as_calls(found) if closed else Reading()
        calls += made.calls
        broken += made.broken or not made.calls
        failures += not end
        tag = text.find(OPEN, max(end, tag + len(OPEN)))
    return Reading(tuple(calls[:MOST_CALLS]), broken)


def _past_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start


def _loose(text: str) -> Reading:
    calls: list[Call] = []
    broken = failures = 0
    start = _START.search(text)
    while start and len(calls) < MOST_CALLS and failures < MOST_FAILURES:
        found, length = _decode(text, start.start())
        if length:
            made = _as_calls(found)
            calls += made.calls
            broken += made.broken
            after = length
        else:
            failures += 1
            broken += bool(_CALL_LIKE.search(text, start.start(), start.start() + 4096))
            after = start.end()
        start = _START.search(text, after)
    return Reading(tuple(calls[:MOST_CALLS]), broken)


def _decode(text: str, start: int = 0) -> tuple[Any, int]:
    """The JSON value at that place and where it ends; 0 when there is none."""
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, 0


def _as_calls(found: Any) -> Reading:
    """The calls an object or a list is; a list in which some are none has broken ones."""
    items = found if isinstance(found, list) else [found]
    if len(items) == 1 and isinstance(items[0], dict) and isinstance(items[0].get("tool_calls"), list):
        items = items[0]["tool_calls"]
    calls = tuple(call for call in map(_as_call, items[:MOST_CALLS]) if call)
    broken = len(items[:MOST_CALLS]) - len(calls)
    if not calls:
        broken = sum(isinstance(item, dict) and _meant_as_call(item) for item in items[:MOST_CALLS])
    return Reading(calls, broken)


def _meant_as_call(item: Mapping[str, Any]) -> bool:
    inner = item.get("function") or item.get("function_call")
    return isinstance(inner, Mapping) or ("name" in item and ("arguments" in item or "parameters" in item))


def _as_call(item: Any) -> Call | None:
    if not isinstance(item, Mapping):
        return None
    inner = item.get("function") or item.get("function_call")
    body = inner if isinstance(inner, Mapping) else item
    name = body.get("name") or (inner if isinstance(inner, str) else None)
    key = next((key for key in ("arguments", "parameters") if body.get(key) is not None), "arguments")
    if not isinstance(name, str) or not name.strip() or key not in body:
        return None
    arguments = body[key]
    if isinstance(arguments, str):
        arguments = read_json(arguments) if arguments.strip() else {}
    if arguments is None and body[key] is None:
        arguments = {}
    if not isinstance(arguments, Mapping) or _too_deep(arguments):
        return None
    return Call(name.strip(), {str(key): value for key, value in arguments.items()})


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, Mapping) else holder)
            if isinstance(item, Mapping | list | tuple)
        ]
        if not level:
            return False
    return True


def _turn_text(turn: Mapping[str, Any]) -> str:
    """One turn as text: the calls it holds, otherwise what it says."""
    called = turn.get("tool_calls")
    if called is None and isinstance(turn.get("function_call"), Mapping):
        called = [turn["function_call"]]
    if isinstance(called, str):
        called = read_json(called)
    if isinstance(called, Sequence) and len(called):
        return _json(without_nulls(list(called)))
    said = turn.get("content", turn.get("value"))
    if said is None and "role" not in turn and "from" not in turn:
        return _json(without_nulls(turn))
    if isinstance(said, Mapping):
        return _json(said)
    if isinstance(said, Sequence) and not isinstance(said, str):
        if turn.get("from") == "function_call":
            return _json(without_nulls(list(said)))
        texts = (part.get("text") for part in said if isinstance(part, Mapping))
        return "".join(text for text in texts if isinstance(text, str))
    return said if isinstance(said, str) else ""


def _python_literals(text: str) -> Reading | None:
    """Some data sets hold calls as Python prints them; a model must not write so, but the row says what it means."""
    pieces = text.split(OPEN)[1:] if OPEN in text else [text]
    calls: list[Call] = []
    for piece in pieces[:MOST_CALLS]:
        try:
            found = ast.literal_eval(piece.partition(CLOSE)[0].strip()[:65_536])
            calls += _as_calls(json.loads(json.dumps(found))).calls
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return None
    return Reading(tuple(calls)) if calls else None


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return ""
