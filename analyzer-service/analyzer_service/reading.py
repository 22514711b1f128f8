"""Rows of a data set file one at a time: where each one is, what it holds, or why it cannot be read."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, get_args

import orjson

from imts_shared.contracts.datasets import FileType
from imts_shared.storage import Storage

FILE_TYPES: frozenset[str] = frozenset(get_args(FileType))
LONGEST_LINE = 64 * 2**20
SMALL_FILE = 8 * 2**20
ROWS_AT_ONCE = 4_096
_BOM = b"\xef\xbb\xbf"
_HEAD = 64 * 1024
_NESTED = frozenset({"messages", "conversations", "tools", "chosen", "rejected", "history"})
_LABELS = frozenset({"label", "kto_tag"})


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


def file_type(head: bytes, file_name: str) -> FileType:
    """By content first: a name may lie."""
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"\x1f\x8b"):
        raise Unreadable("compressed", "The file is compressed with gzip; upload it unpacked.")
    if head.startswith(b"PK\x03\x04"):
        raise Unreadable("compressed", "The file is a zip archive; upload the file inside it.")
    text = head.removeprefix(_BOM).lstrip()
    if not text:
        raise Unreadable("empty_file", "The file is empty.")
    if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in text[:200]:
        raise Unreadable("not_utf8", "The file is not UTF-8 text; save it as UTF-8.")
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "jsonl" if _is_lines(text) else "json"
    suffix = Path(file_name).suffix.lower()
    if suffix == ".json":
        return "json"
    if suffix in {".jsonl", ".ndjson"}:
        return "jsonl"
    if suffix in {".csv", ".txt", ""} and _is_csv(text):
        return "csv"
    raise Unreadable("unknown_file_type", "The file is neither JSON, JSON Lines, CSV nor Parquet.")


def _is_lines(text: bytes) -> bool:
    """One object spread over many lines is JSON; anything else that begins with an object is taken line by line."""
    first, newline, rest = text.partition(b"\n")
    if not newline or not rest.strip():
        return True
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return first.strip() != b"{"
    return True


def _is_csv(text: bytes) -> bool:
    first = text.partition(b"\n")[0]
    return all(byte >= 32 or byte in b"\t\r" for byte in first)


def head_of(storage: Storage, key: str) -> bytes:
    with storage.open(key) as file:
        return file.read(_HEAD)


def rows(storage: Storage, key: str, kind: str, scratch: Path) -> Iterator[Row]:
    if kind == "parquet":
        path = storage.local_path(key)
        if path is None:
            path = scratch / "data.parquet"
            storage.download(key, path)
        if path.stat().st_size:
            yield from _parquet(path)
        return
    with storage.open(key) as file:
        if kind == "jsonl":
            yield from _jsonl(file)
        elif kind == "json":
            yield from _json(file, storage.size(key))
        else:
            yield from _csv(file)


def _jsonl(file: BinaryIO) -> Iterator[Row]:
    number = 0
    while raw := file.readline(LONGEST_LINE):
        number += 1
        if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
            while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield Row(number, None, Fault("line_too_long", f"The line is longer than {LONGEST_LINE} bytes."))
            continue
        if number == 1:
            raw = raw.removeprefix(_BOM)
        if not raw.strip():
            continue
        try:
            yield Row(number, orjson.loads(raw))
        except orjson.JSONDecodeError as error:
            yield Row(number, None, _json_fault(raw, error))


def _json_fault(raw: bytes, error: orjson.JSONDecodeError) -> Fault:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as broken:
        return Fault("not_utf8", f"Byte {broken.start + 1} of the line is not UTF-8.")
    return Fault("invalid_json", f"The line is not valid JSON: {error.msg} at column {error.colno}.")


def _json(file: BinaryIO, size: int) -> Iterator[Row]:
    """A small file at once, a large array as a stream; a single object is one row."""
    if size <= SMALL_FILE:
        content = file.read().removeprefix(_BOM)
        if not content.strip():
            return
        try:
            parsed = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise Unreadable(
                "invalid_json", f"The file is not valid JSON: {error.msg} at line {error.lineno}.", error.lineno
            ) from error
        for number, row in enumerate(parsed if isinstance(parsed, list) else [parsed], 1):
            yield Row(number, row)
        return
    import ijson

    if file.read(len(_BOM)) != _BOM:
        file.seek(0)
    number = 0
    try:
        for number, row in enumerate(ijson.items(file, "item", use_float=True), 1):
            yield Row(number, row)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise Unreadable(
            "invalid_json", f"The file is not valid JSON after row {number}: {str(error)[:200]}.", number + 1
        ) from error


def _csv(file: BinaryIO) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_LINE)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, strict=True)
    names: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Row(line, None, Fault("invalid_csv", f"The line is not valid CSV: {error}."))
            line = reader.line_num + 1
            continue
        if cells is None:
            return
        if names is None:
            names = cells
        elif cells:
            yield _csv_row(line, names, cells)
        line = reader.line_num + 1


def _csv_row(line: int, names: list[str], cells: list[str]) -> Row:
    if len(cells) != len(names):
        message = f"The line has {len(cells)} cells, the header has {len(names)}."
        return Row(line, None, Fault("wrong_column_count", message))
    if any("\udc80" <= character <= "\udcff" for cell in cells for character in cell):
        return Row(line, None, Fault("not_utf8", "The line is not UTF-8."))
    return Row(line, {name: _cell(name, cell) for name, cell in zip(names, cells, strict=True)})


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


def _parquet(path: Path) -> Iterator[Row]:
    import polars

    number = 0
    try:
        for frame in polars.scan_parquet(path).collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
            for row in frame.iter_rows(named=True):
                number += 1
                yield Row(number, row)
    except polars.exceptions.PolarsError as error:
        raise Unreadable(
            "invalid_parquet", f"The Parquet file cannot be read: {str(error)[:200]}.", number + 1
        ) from error
