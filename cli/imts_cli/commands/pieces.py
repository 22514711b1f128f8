"""Options that hold several things in one: `name=upstream,in=3,out=15`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from imts_cli.commands.exits import UsageFault

Kind = Callable[[str], Any]
Fields = Mapping[str, tuple[str, Kind]]
"""By what is written: the API's name, and how the value is read."""


def number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def several(text: str) -> list[str]:
    """May be there more than once."""
    return [text]


def split(option: str, text: str, known: Fields) -> tuple[str, dict[str, Any]]:
    """What stands before the first comma, and the fields behind it."""
    head, *pieces = text.split(",")
    fields: dict[str, Any] = {}
    for piece in pieces:
        name, _, value = piece.partition("=")
        if name not in known or not value:
            wanted = ", ".join(f"{one}=…" for one in known)
            raise UsageFault(f"{option} {text!r}: {piece!r} is none of {wanted}")
        field, kind = known[name]
        if field in fields and kind is not several:
            raise UsageFault(f"{option} {text!r}: {name}= is there twice.")
        try:
            fields[field] = fields.get(field, []) + several(value) if kind is several else kind(value)
        except ValueError:
            raise UsageFault(f"{option} {text!r}: {name}= takes a number, not {value!r}.") from None
    return head, fields
