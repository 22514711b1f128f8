"""One pass over a data set's rows: columns, lengths a role or field, turns, labels."""

from typing import Any

import orjson

from analyzer_service.profile.duplicates import Duplicates
from analyzer_service.profile.lengths import Lengths
from imts_shared.worker.lines import clean

MOST_NAMES = 1_000
LONGEST_NAME = 200
OTHER = "(other)"


def _canonical(row: Any) -> bytes:
    """The same bytes for equal rows, whatever order their fields came in."""
    try:
        return orjson.dumps(row, default=repr, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        return repr(row).encode("utf-8", "surrogatepass")


def _shown(name: str) -> str:
    return clean(name, LONGEST_NAME)


class Profile:
    """Grows row by row. Names beyond the first thousand are counted together: memory stays bounded."""

    def __init__(self, duplicates: Duplicates) -> None:
        self._duplicates = duplicates
        self.rows = 0
        self.unreadable = 0
        self._columns: dict[str, dict[str, int]] = {}
        self._chars: dict[str, Lengths] = {}
        self._words: dict[str, Lengths] = {}
        self._turns = Lengths()
        self._labels = {"true": 0, "false": 0}

    def add(self, line: int, row: Any) -> None:
        self.rows += 1
        if row is None:
            self.unreadable += 1
            return
        self._duplicates.add(_canonical(row), line)
        if not isinstance(row, dict):
            self._measure("(row)", row)
            return
        for name, value in row.items():
            self._column(name, value)
            self._measure(name, value)
        label = row.get("label", row.get("kto_tag"))
        if isinstance(label, bool):
            self._labels["true" if label else "false"] += 1

    def summary(self) -> dict[str, Any]:
        named: dict[str, Any] = {
            "rows": self.rows,
            "unreadableRows": self.unreadable,
            "columns": [
                {"name": _shown(name), "present": c["present"], "nulls": c["nulls"] + self._absent(c)}
                for name, c in self._columns.items()
            ],
            "lengths": {
                _shown(name): {"chars": chars.summary(), "words": self._words[name].summary()}
                for name, chars in self._chars.items()
            },
            "duplicates": {"exact": self._duplicates.summary()},
        }
        if self._turns.number:
            named["turns"] = self._turns.summary()
        if sum(self._labels.values()):
            named["labels"] = dict(self._labels)
        return named

    def _absent(self, column: dict[str, int]) -> int:
        return max(0, self.rows - self.unreadable - column["present"])

    def _column(self, name: str, value: Any) -> None:
        column = self._columns.get(name)
        if column is None:
            if len(self._columns) >= MOST_NAMES:
                name = OTHER
            column = self._columns.setdefault(name, {"present": 0, "nulls": 0})
        column["present"] += 1
        if value is None:
            column["nulls"] += 1

    def _measure(self, name: str, value: Any) -> None:
        if isinstance(value, str):
            self._text(name, value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            if name in ("messages", "conversations"):
                self._turns.add(len(value))
            for turn in value:
                self._turn(name, turn)

    def _turn(self, name: str, turn: Any) -> None:
        if not isinstance(turn, dict):
            return
        role = turn.get("role", turn.get("from"))
        text = turn.get("content", turn.get("value"))
        if isinstance(role, str) and isinstance(text, str):
            self._text(role if name in ("messages", "conversations") else f"{name}.{role}", text)

    def _text(self, name: str, text: str) -> None:
        chars = self._chars.get(name)
        if chars is None:
            if len(self._chars) >= MOST_NAMES:
                name = OTHER
            chars = self._chars.setdefault(name, Lengths())
            self._words.setdefault(name, Lengths())
        chars.add(len(text))
        self._words[name].add(len(text.split()))
