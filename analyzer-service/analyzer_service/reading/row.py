"""A row, what can be wrong with reading it, and how large it may be."""

from dataclasses import dataclass
from typing import Any

LONGEST_ROW = 16 * 2**20
"""Bytes. A longer line is passed over without being held: the parsed form of a row takes many times its text."""

DEEPEST = 100
"""Levels of nesting. Whatever walks or writes a row may recurse over it."""

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Fault:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """`line` is the file's line (JSONL, CSV) or the row's number (JSON, Parquet). An unreadable row has a fault."""

    line: int
    content: Any
    fault: Fault | None = None


class Unreadable(Exception):
    """From here on the file cannot be read."""

    def __init__(self, code: str, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.line = line


def too_long() -> Fault:
    return Fault("line_too_long", f"The row is longer than {LONGEST_ROW // 2**20} MiB; split it or leave it out.")
