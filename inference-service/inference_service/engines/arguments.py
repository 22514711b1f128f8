"""An engine's own options as people give them: checked by what the engine's parser takes, and made into its command."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imts_shared.contracts.deployments import Engine
from imts_shared.contracts.engine_options import PARTS, is_option, refused, shown
from imts_shared.contracts.problems import FieldNote

TRUE, FALSE = ("true", "on", "yes", "1"), ("false", "off", "no", "0")


@dataclass(frozen=True)
class Option:
    flag: str
    kind: str
    several: bool = False
    choices: tuple[str, ...] | None = None


class Options:
    """What one installed engine takes; `known` is what its parser was dumped as."""

    def __init__(self, known: Mapping[str, Mapping[str, Any]], version: str, *, for_cpu: bool = True) -> None:
        self.version = version
        self.for_cpu = for_cpu
        self._options: dict[str, Option] = {}
        self._names: dict[str, str] = {}
        for name, one in known.items():
            choices = tuple(one["choices"]) if one.get("choices") else None
            self._options[name] = Option(one["flag"], one["type"], bool(one.get("several")), choices)
            self._names |= dict.fromkeys([name, *one["names"]], name)

    def knows(self, name: str) -> bool:
        return name in self._names

    def switched_off(self, name: str, given: Mapping[str, Any]) -> bool:
        return not _truth(given.get(name, False))

    def checked(self, given: Mapping[str, Any]) -> list[FieldNote]:
        return [note for name, value in given.items() if (note := self._fault(name, value)) is not None]

    def command(self, given: Mapping[str, Any]) -> list[str]:
        """Of options that were checked. None leaves the engine its own choice."""
        words: list[str] = []
        for name, value in given.items():
            if value is None:
                continue
            base, _, inner = name.partition(".")
            option = self._options[self._names[base]]
            if option.kind == "switch":
                words.append(option.flag if _truth(value) else f"--no-{option.flag.removeprefix('--')}")
            elif option.several and isinstance(value, list):
                words += [option.flag, *map(_word, value)]
            elif inner:
                words.append(f"{option.flag}.{inner}={_word(value)}")
            else:
                words.append(f"{option.flag}={_word(value)}")
        return words

    def _fault(self, name: str, value: Any) -> FieldNote | None:
        base, _, inner = name.partition(".")
        own = self._names.get(base, base)
        note = refused(Engine.vllm, name, value, own)
        if note is not None:
            return note
        option = self._options.get(own)
        if option is None:
            near = difflib.get_close_matches(base, self._names, 1, 0.6)
            hint = f"Did you mean {near[0]}?" if near else "The engine's own manual lists its options."
            return _note(name, f"The engine (version {self.version}) has no option {name}.", hint)
        if value is None:
            return None
        if inner and option.kind not in _STRUCTURED:
            return _note(name, f"{base} has no parts, so there is no {name}.")
        if option.kind in _STRUCTURED and own not in PARTS:
            return _note(name, f"{name} can name code to run or files of the worker, so it is not taken.")
        wrong = None if inner else _mistake(own, option, value)
        return None if wrong is None else _note(name, f"{name} {wrong}, not {shown(value)}.")


def _note(name: str, message: str, hint: str | None = None) -> FieldNote:
    return FieldNote(level="error", field=f"engineArgs.{name}", message=message, hint=hint)


def _mistake(name: str, option: Option, value: Any) -> str | None:
    if isinstance(value, list) and not (option.several or option.kind in _STRUCTURED):
        return "takes one value"
    values = value if isinstance(value, list) and option.several else [value]
    for one in values:
        if isinstance(value, list) and is_option(one):
            return "must not begin with a dash"
        if option.choices is not None and _word(one) not in option.choices:
            return f"must be one of {', '.join(option.choices)}"
        wrong = _wrong_kind(option.kind, one)
        if wrong is not None:
            return wrong
    if name == "chat_template" and "{" not in str(value):
        return "must be the template itself: a file of the worker is not read"
    return None


def _wrong_kind(kind: str, value: Any) -> str | None:
    if kind == "switch":
        return None if isinstance(value, bool) or str(value).lower() in (*TRUE, *FALSE) else "must be true or false"
    if kind == "int":
        return None if _is_number(value, int) else "must be a whole number"
    if kind == "float":
        return None if _is_number(value, float) else "must be a number"
    if kind.startswith("human_readable_int"):
        text = str(value).strip().lower()
        automatic = kind.endswith("_or_auto") and text in ("auto", "-1")
        readable = _is_number(text.rstrip("kmgt") if text[-1:].isalpha() else value, float)
        return (
            None if automatic or (readable and not isinstance(value, bool)) else "must be a whole number, or such as 4k"
        )
    if kind in _STRUCTURED:
        return None if _is_structured(value) else "must be an object"
    if isinstance(value, dict):
        return "must be text"
    return None


_STRUCTURED = ("parse_dataclass", "loads", "_parse_type", "union_dict_and_str")


def _is_structured(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, dict | list)
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


def _is_number(value: Any, kind: type[int] | type[float]) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return kind(value) == float(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _truth(value: Any) -> bool:
    return value is True or str(value).lower() in TRUE


def _word(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
