"""Rows of a data set file one at a time, with where each one is: a line, or a row's number."""

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

LONGEST_LINE = 64 * 2**20
SMALL_FILE = 8 * 2**20
ROWS_AT_ONCE = 4_096
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """`content` is None where the row cannot be read."""

    line: int
    content: Any


class Unreadable(Exception):
    """The file as a whole is not what its type says."""


def read_jsonl(file: BinaryIO) -> Iterator[Row]:
    number = 0
    while raw := file.readline(LONGEST_LINE):
        number += 1
        if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
            while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield Row(number, None)
            continue
        if number == 1:
            raw = raw.removeprefix(_BOM)
        if raw.isspace() or not raw:
            continue
        try:
            yield Row(number, orjson.loads(raw))
        except orjson.JSONDecodeError:
            yield Row(number, None)


def read_json(file: BinaryIO, size: int) -> Iterator[Row]:
    """A small array at once, a large one as a stream; a single object counts as one row."""
    if size <= SMALL_FILE:
        content = file.read().removeprefix(_BOM)
        if not content.strip():
            return
        try:
            parsed = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise Unreadable(f"not valid JSON: {error}") from error
        for number, row in enumerate(parsed if isinstance(parsed, list) else [parsed], 1):
            yield Row(number, row)
        return
    import ijson

    if file.read(len(_BOM)) != _BOM:
        file.seek(0)
    try:
        for number, row in enumerate(ijson.items(file, "item", use_float=True), 1):
            yield Row(number, row)
    except ijson.JSONError as error:
        raise Unreadable(f"not valid JSON: {error}") from error


def read_csv(file: BinaryIO) -> Iterator[Row]:
    csv.field_size_limit(min(LONGEST_LINE, sys.maxsize))
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    reader = csv.reader(text)
    names: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error:
            yield Row(line, None)
            line = reader.line_num + 1
            continue
        if cells is None:
            return
        if names is None:
            names = cells
        elif len(cells) == len(names):
            yield Row(line, {name: cell or None for name, cell in zip(names, cells, strict=True)})
        elif cells:
            yield Row(line, None)
        line = reader.line_num + 1


def read_parquet(path: Path) -> Iterator[Row]:
    import polars

    try:
        number = 0
        for frame in polars.scan_parquet(path).collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
            for row in frame.iter_rows(named=True):
                number += 1
                yield Row(number, row)
    except polars.exceptions.PolarsError as error:
        raise Unreadable(f"not a Parquet file that can be read: {error}") from error
