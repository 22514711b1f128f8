"""Reading the files that an entry names, row by row, and writing them anew as JSON lines."""

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from imts_cli.registries.entries import Entry, EntryFault
from imts_cli.registries.rewriting import rewritten

_READ = 2**20
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_CELL = 2**27
_LONGEST_ROW = 2**26
_BEFORE = b" \t\r\n" + codecs.BOM_UTF8


@dataclass(frozen=True)
class Unparsed:
    """A line that is not JSON: it goes on as it is, so that the platform tells where and why."""

    raw: bytes


def write(entry: Entry, target: Path) -> int:
    """How many rows there were. The same files give the same bytes, so that importing twice makes one version."""
    count = 0
    with target.open("wb") as out:
        for file in files_of(entry.source):
            for row in _rows(file, entry):
                out.write(row.raw if isinstance(row, Unparsed) else _line(rewritten(row, entry)))
                out.write(b"\n")
                count += 1
    if not count:
        raise EntryFault(f"{entry.source} holds no rows.")
    return count


def files_of(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    try:
        files = sorted(file for file in source.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError as error:
        raise EntryFault(f"{source} cannot be read: {error.strerror}.") from None
    if not files:
        raise EntryFault(f"{source} holds no files.")
    return files


def _line(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _rows(file: Path, entry: Entry) -> Iterator[Any]:
    ending = file.suffix.lower().removeprefix(".")
    if ending not in _READERS:
        allowed = ", ".join(sorted(_READERS))
        raise EntryFault(f"{file} is of a type that is not read; these are: {allowed}.")
    try:
        yield from _READERS[ending](file, entry)
    except OSError as error:
        raise EntryFault(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise EntryFault(f"{file} is not UTF-8.") from None


def _json(file: Path, entry: Entry) -> Iterator[Any]:
    """A list of rows, or a row a line: the name does not tell."""
    with file.open("rb") as opened:
        while (first := opened.read(1)) and first in _BEFORE:
            pass
        opened.seek(0)
        if first != b"[":
            yield from _lines(opened)
            return
    with file.open(encoding="utf-8-sig", newline="") as text:
        yield from _Array(file, text).rows()


def _lines(opened: IO[bytes]) -> Iterator[Any]:
    for line in opened:
        raw = line.removeprefix(codecs.BOM_UTF8).strip()
        if not raw:
            continue
        try:
            yield json.loads(raw)
        except (ValueError, RecursionError):
            yield Unparsed(raw)


class _Array:
    """A list of rows, one at a time, in memory bounded by the longest."""

    _decode = staticmethod(json.JSONDecoder().raw_decode)

    def __init__(self, file: Path, opened: IO[str]) -> None:
        self._file, self._opened = file, opened
        self._text, self._at, self._count = "", 0, 0

    def rows(self) -> Iterator[Any]:
        self._passed("[")
        after = "]" if self._next() == "]" else ","
        while after == ",":
            yield self._value()
            self._count += 1
            after = self._next()
            if after not in (",", "]"):
                raise self._broken("expected ',' or ']'")
            self._passed(after)
        if self._count == 0:
            self._passed("]")
        if self._next():
            raise self._broken("something follows after the list's end")

    def _more(self) -> bool:
        held = len(self._text) - self._at
        if held > _LONGEST_ROW:
            raise self._broken("the next row has no end")
        read = self._opened.read(max(_READ, held))
        self._text, self._at = self._text[self._at :] + read, 0
        return bool(read)

    def _next(self) -> str:
        """The next character that is not white space; nothing at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _passed(self, expected: str) -> None:
        if self._next() != expected:
            raise self._broken(f"expected {expected!r}")
        self._at += 1

    def _value(self) -> Any:
        """A value that ends where the text read so far does may go on after it."""
        self._next()
        while True:
            reason = None
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                reason, end = error.msg, len(self._text)
            except RecursionError:
                raise self._broken("the next row is nested too deeply") from None
            if end < len(self._text):
                self._at = end
                return value
            if self._more():
                continue
            if reason is not None:
                raise self._broken(reason)
            self._at = len(self._text)
            return value

    def _broken(self, reason: str) -> EntryFault:
        where = f"after row {self._count}" if self._count else "at its beginning"
        return EntryFault(f"{self._file} is not valid JSON {where}: {reason}.")


def _csv(file: Path, entry: Entry) -> Iterator[Any]:
    csv.field_size_limit(_LONGEST_CELL)
    nested, labels = _nested(entry), {entry.columns.get("kto_tag")}
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        names: list[str] = []
        try:
            for cells in reader:
                if not cells:
                    continue
                if not names:
                    names = [cell.strip() for cell in cells]
                    continue
                if len(cells) != len(names):
                    sizes = f"{len(cells)} cells, the header has {len(names)}"
                    raise EntryFault(f"Line {reader.line_num} of {file} has {sizes}.")
                named = zip(names, cells, strict=True)
                yield {name: _cell(cell, name in nested, name in labels) for name, cell in named}
        except csv.Error as error:
            raise EntryFault(f"Line {reader.line_num} of {file} is not valid CSV: {error}.") from None


def _nested(entry: Entry) -> set[str]:
    names = ["history", "messages"] + ([] if entry.formatting == "alpaca" else ["chosen", "rejected"])
    return {entry.columns[name] for name in names if name in entry.columns}


def _cell(cell: str, nested: bool, label: bool) -> Any:
    """Lists, turns and labels have no form of their own in CSV; all else stays text."""
    if not cell:
        return None
    if label and cell.strip().lower() in ("true", "false"):
        return cell.strip().lower() == "true"
    if nested and cell.lstrip().startswith(("[", "{")):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def _text(file: Path, entry: Entry) -> Iterator[Any]:
    """A row a line, in the column `text`."""
    with file.open(encoding="utf-8-sig") as opened:
        for line in opened:
            if line.strip():
                yield {"text": line.rstrip("\n")}


def _parquet(file: Path, entry: Entry) -> Iterator[Any]:
    try:
        import polars
    except ImportError:
        raise EntryFault(f"Reading {file} needs the package polars, which is not installed.") from None
    try:
        frames = polars.scan_parquet(file, glob=False).collect_batches(chunk_size=4_096, maintain_order=True)
        for frame in frames:
            yield from (_plain(row) for row in frame.iter_rows(named=True))
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        raise EntryFault(f"{file} cannot be read as Parquet: {str(error)[:200]}.") from None


def _plain(value: Any) -> Any:
    """Such as JSON can say: dates and the like become text. An object of Parquet has every field, if only as null."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


_READERS: dict[str, Callable[[Path, Entry], Iterator[Any]]] = {
    "json": _json,
    "jsonl": _json,
    "csv": _csv,
    "txt": _text,
    "parquet": _parquet,
}
