"""Rows of a CSV file, each under the names in the file's first line."""

import csv
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from analyzer_service.reading.row import LONGEST_ROW, Fault, Row, Unreadable, too_long

_NESTED = frozenset({"messages", "conversations", "tools", "chosen", "rejected", "history"})
_LABELS = frozenset({"label", "kto_tag"})


class _TooLong(Exception):
    """The next line does not fit; it has been passed over."""


class _Lines:
    """Feeds the reader line by line. By itself it would take a line of any length into memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self.number = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_ROW)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LONGEST_ROW and not line.endswith(("\n", "\r")):
            while (rest := self._text.readline(LONGEST_ROW)) and not rest.endswith(("\n", "\r")):
                pass
            raise _TooLong
        return line


def table(file: BinaryIO, skip: int) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_ROW)
    lines = _Lines(file)
    reader = csv.reader(lines, strict=True)
    names: list[str] | None = None
    while True:
        line = lines.number + 1
        try:
            cells = next(reader, None)
        except (csv.Error, _TooLong) as error:
            fault = _fault(error)
            if names is None:
                raise Unreadable(fault.code, f"The header: {fault.message}") from None
            row = Row(line, None, fault)
        else:
            if cells is None:
                return
            if not cells:
                continue
            if names is None:
                names = _header(cells)
                continue
            row = _row(line, names, cells)
        if skip:
            skip -= 1
        else:
            yield row


def column_names(file: BinaryIO) -> list[str]:
    lines = _Lines(file)
    try:
        return _header(next((cells for cells in csv.reader(lines, strict=True) if cells), []))
    except (csv.Error, _TooLong) as error:
        fault = _fault(error)
        raise Unreadable(fault.code, f"The header: {fault.message}") from None


def _fault(error: Exception) -> Fault:
    if isinstance(error, _TooLong):
        return too_long()
    if "unexpected end of data" in str(error):
        return Fault("invalid_csv", "A quote that opens in this line is never closed.")
    if "field limit" in str(error):
        return Fault("line_too_long", "A cell is too long; is a quote missing?")
    return Fault("invalid_csv", f"The line is not valid CSV: {error}.")


def _header(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(names) == 1:
        for mark, name in {";": "semicolons", "\t": "tabs"}.items():
            if mark in names[0]:
                raise Unreadable("wrong_delimiter", f"The columns are parted by {name}; CSV parts them by commas.")
    for name in names:
        if names.count(name) > 1:
            raise Unreadable("duplicate_column", f"Two columns are called {name[:100]!r}.")
    return names


def _row(line: int, names: list[str], cells: list[str]) -> Row:
    if len(cells) != len(names):
        message = f"The row has {_number(len(cells))}, the header has {_number(len(names))}."
        return Row(line, None, Fault("wrong_column_count", message))
    for cell in cells:
        if not cell.isascii() and _has_bad_bytes(cell):
            return Row(line, None, Fault("not_utf8", "The row is not UTF-8."))
    return Row(line, {name: _cell(name, cell) for name, cell in zip(names, cells, strict=True)})


def _number(cells: int) -> str:
    return f"{cells} cell" if cells == 1 else f"{cells} cells"


def _has_bad_bytes(cell: str) -> bool:
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _cell(name: str, cell: str) -> Any:
    """Lists, objects and labels have no form of their own in CSV; elsewhere text stays text."""
    if not cell:
        return None
    if name in _NESTED and cell.lstrip().startswith(("[", "{")):
        try:
            return orjson.loads(cell)
        except orjson.JSONDecodeError:
            return cell
    if name in _LABELS and cell.strip().lower() in {"true", "false"}:
        return cell.strip().lower() == "true"
    return cell
