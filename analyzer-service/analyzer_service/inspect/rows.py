"""Checking one row against its format. Each check answers what is wrong, in words for whoever wrote the row."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from analyzer_service.inspect.formats import format_of
from analyzer_service.inspect.tools import tools_fault
from analyzer_service.inspect.turns import SHAREGPT_SAYS, message_faults, sharegpt_faults
from analyzer_service.reading import Fault
from imts_shared.contracts.datasets import DatasetFormat

F = DatasetFormat
Check = Callable[[Mapping[str, Any]], Iterator[Fault]]


def faults_of(row: Any, form: DatasetFormat) -> list[Fault]:
    if not isinstance(row, Mapping):
        return [Fault("not_an_object", f"The row is {_kind(row)}, not an object with fields.")]
    if form == F.unknown:
        fields = ", ".join(str(name)[:40] for name in list(row)[:8]) or "none"
        return [Fault("unknown_format", f"No known format fits these fields: {fields}.")]
    faults = list(_CHECKS[form](row))
    if faults:
        looks = format_of(row)
        if looks not in {form, F.unknown} and not any(_CHECKS[looks](row)):
            return [Fault("other_format", f"The row is {looks}, the file is {form}. {faults[0].message}")]
    tools = tools_fault(row.get("tools"))
    if tools is not None:
        faults.append(tools)
    if not faults and _holds_nul(row):
        faults.append(Fault("nul_character", "The row holds a NUL character."))
    return faults


def _kind(value: Any) -> str:
    names = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _holds_nul(row: Mapping[str, Any]) -> bool:
    waiting: list[Any] = [row]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if "\x00" in value:
                return True
        elif isinstance(value, Mapping):
            waiting += value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


def _text(row: Mapping[str, Any], name: str, *, needed: bool = True, filled: bool = True) -> Iterator[Fault]:
    value = row.get(name)
    if value is None:
        if needed:
            yield Fault("missing_field", f"`{name}` is missing.")
    elif not isinstance(value, str):
        yield Fault("wrong_type", f"`{name}` must be text, not {_kind(value)}.")
    elif filled and not value.strip():
        yield Fault("empty_field", f"`{name}` is empty.")


def _alpaca(row: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _text(row, "instruction", filled=not row.get("input"))
    yield from _text(row, "input", needed=False, filled=False)
    yield from _text(row, "output")
    yield from _text(row, "system", needed=False, filled=False)
    yield from _history(row.get("history"))


def _history(history: Any) -> Iterator[Fault]:
    if history is None:
        return
    pairs = isinstance(history, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in history
    )
    if not pairs:
        yield Fault("wrong_type", "`history` must be a list of [question, answer] pairs.")


def _sharegpt(row: Mapping[str, Any]) -> Iterator[Fault]:
    if row.get("conversations") is None:
        yield Fault("missing_field", "`conversations` is missing.")
    else:
        yield from sharegpt_faults(row["conversations"])
    yield from _text(row, "system", needed=False, filled=False)


def _messages(row: Mapping[str, Any]) -> Iterator[Fault]:
    if row.get("messages") is None:
        yield Fault("missing_field", "`messages` is missing.")
    else:
        yield from message_faults(row["messages"])


def _preference(row: Mapping[str, Any]) -> Iterator[Fault]:
    prompted = any(row.get(name) is not None for name in _PROMPTS)
    if prompted or not isinstance(row.get("chosen"), list):
        yield from _prompt(row)
    answers = [row.get("chosen"), row.get("rejected")]
    for name, answer in zip(("chosen", "rejected"), answers, strict=True):
        yield from _answer(name, answer, prompted=prompted)
    if answers[0] is not None and answers[0] == answers[1]:
        yield Fault("chosen_equals_rejected", "`chosen` and `rejected` are the same.")


def _answer(name: str, answer: Any, *, prompted: bool) -> Iterator[Fault]:
    """Text, one turn, or messages: after a prompt only what follows it, else the whole conversation."""
    if answer is None:
        yield Fault("missing_field", f"`{name}` is missing.")
    elif isinstance(answer, str):
        if not answer.strip():
            yield Fault("empty_field", f"`{name}` is empty.")
    elif isinstance(answer, Mapping):
        for fault in _one_turn(answer):
            yield Fault(fault.code, f"`{name}`: {fault.message}")
    elif isinstance(answer, list):
        begins_with_answer = prompted and answer[:1] != [] and _speaker(answer[0]) in SHAREGPT_SAYS
        check = sharegpt_faults if answer and _is_sharegpt(answer[0]) else message_faults
        for fault in check(answer, continues=begins_with_answer):
            yield Fault(fault.code, f"`{name}`: {fault.message}")
    else:
        yield Fault("wrong_type", f"`{name}` must be text, a turn or a list of messages, not {_kind(answer)}.")


def _is_sharegpt(turn: Any) -> bool:
    return isinstance(turn, Mapping) and "from" in turn


def _speaker(turn: Any) -> str:
    role = turn.get("from", turn.get("role")) if isinstance(turn, Mapping) else None
    return role if isinstance(role, str) else ""


def _one_turn(turn: Mapping[str, Any]) -> Iterator[Fault]:
    check = sharegpt_faults if _is_sharegpt(turn) else message_faults
    answers = _speaker(turn) in SHAREGPT_SAYS
    yield from check([turn], continues=answers)


_PROMPTS = ("prompt", "instruction", "conversations", "messages")


def _prompt(row: Mapping[str, Any]) -> Iterator[Fault]:
    """What comes before the answer, in any of the ways that it may be written."""
    if row.get("conversations") is not None:
        yield from sharegpt_faults(row["conversations"], complete=False)
    elif row.get("messages") is not None:
        yield from message_faults(row["messages"], complete=False)
    elif isinstance(row.get("prompt"), list):
        yield from message_faults(row["prompt"], complete=False)
    elif row.get("prompt") is not None:
        yield from _text(row, "prompt")
    elif row.get("instruction") is not None:
        yield from _text(row, "instruction", filled=not row.get("input"))
    else:
        yield Fault("missing_field", "`prompt`, `instruction`, `conversations` or `messages` is missing.")


def _kto(row: Mapping[str, Any]) -> Iterator[Fault]:
    name = "kto_tag" if "kto_tag" in row else "label"
    if row.get(name) is None:
        yield Fault("missing_field", f"`{name}` is missing.")
    elif not isinstance(row[name], bool):
        yield Fault("wrong_type", f"`{name}` must be true or false, not {_kind(row[name])}.")
    answer = "output" if row.get("output") is not None else "completion"
    if row.get(answer) is not None or not _converses(row):
        yield from _prompt(row)
        yield from _answer(answer, row.get(answer), prompted=True)
    elif row.get("conversations") is not None:
        yield from sharegpt_faults(row["conversations"])
    else:
        yield from message_faults(row["messages"])


def _converses(row: Mapping[str, Any]) -> bool:
    return row.get("conversations") is not None or row.get("messages") is not None


def _plain(row: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _text(row, "text")


_CHECKS: dict[DatasetFormat, Check] = {
    F.alpaca: _alpaca,
    F.sharegpt: _sharegpt,
    F.messages: _messages,
    F.preference: _preference,
    F.kto: _kto,
    F.text: _plain,
}
