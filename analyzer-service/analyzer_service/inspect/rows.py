"""Checking one row against its format. Each check answers what is wrong, in words for whoever wrote the row."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from analyzer_service.inspect.formats import format_of
from analyzer_service.inspect.turns import message_faults, sharegpt_faults, tools_fault
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
    looks = format_of(row)
    if looks not in {form, F.unknown} and not _fits_too(row, form):
        return [Fault("other_format", f"The row looks like {looks}, the file is {form}.")]
    faults = list(_CHECKS[form](row))
    tools = tools_fault(row.get("tools"))
    if tools is not None:
        faults.append(tools)
    if not faults and _holds_nul(row):
        faults.append(Fault("nul_character", "The row holds a NUL character."))
    return faults


def _fits_too(row: Mapping[str, Any], form: DatasetFormat) -> bool:
    return form in {F.text} and "text" in row


def _kind(value: Any) -> str:
    names = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, Mapping):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_holds_nul(item) for item in value)


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
    if "conversations" not in row:
        yield Fault("missing_field", "`conversations` is missing.")
    else:
        yield from sharegpt_faults(row["conversations"])
    yield from _text(row, "system", needed=False, filled=False)


def _messages(row: Mapping[str, Any]) -> Iterator[Fault]:
    if "messages" not in row:
        yield Fault("missing_field", "`messages` is missing.")
    else:
        yield from message_faults(row["messages"])


def _preference(row: Mapping[str, Any]) -> Iterator[Fault]:
    answers = []
    for name in ("chosen", "rejected"):
        value = row.get(name)
        text = _answer(value)
        answers.append(text)
        if value is None:
            yield Fault("missing_field", f"`{name}` is missing.")
        elif text is None:
            yield Fault("wrong_type", f"`{name}` must be text, a turn or a list of messages.")
        elif not text.strip():
            yield Fault("empty_field", f"`{name}` is empty.")
    if answers[0] is not None and answers[0] == answers[1]:
        yield Fault("chosen_equals_rejected", "`chosen` and `rejected` are the same.")
    yield from _prompt(row, needed=not isinstance(row.get("chosen"), list))


def _answer(value: Any) -> str | None:
    if isinstance(value, list):
        value = value[-1] if value else ""
    if isinstance(value, Mapping):
        value = value.get("value", value.get("content"))
    return value if isinstance(value, str) else None


def _prompt(row: Mapping[str, Any], *, needed: bool) -> Iterator[Fault]:
    """What comes before the answer, in any of the ways that it may be written."""
    if "conversations" in row:
        yield from sharegpt_faults(row["conversations"], complete=False)
    elif "messages" in row:
        yield from message_faults(row["messages"], complete=False)
    elif isinstance(row.get("prompt"), list):
        yield from message_faults(row["prompt"], complete=False)
    elif "prompt" in row:
        yield from _text(row, "prompt")
    elif "instruction" in row:
        yield from _text(row, "instruction", filled=not row.get("input"))
    elif needed:
        yield Fault("missing_field", "`prompt`, `instruction`, `conversations` or `messages` is missing.")


def _kto(row: Mapping[str, Any]) -> Iterator[Fault]:
    name = "kto_tag" if "kto_tag" in row else "label"
    if row.get(name) is None:
        yield Fault("missing_field", f"`{name}` is missing.")
    elif not isinstance(row[name], bool):
        yield Fault("wrong_type", f"`{name}` must be true or false, not {_kind(row[name])}.")
    if "conversations" in row:
        yield from sharegpt_faults(row["conversations"])
    elif "messages" in row:
        yield from message_faults(row["messages"])
    else:
        answer = "output" if "output" in row else "completion"
        if isinstance(row.get(answer), list):
            yield from message_faults(row[answer])
        else:
            yield from _text(row, answer)
        yield from _prompt(row, needed=True)


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
