"""Rows of a data set file one at a time: where each one is, what it holds, or why it cannot be read."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from analyzer_service.reading import csv_text, json_text, parquet
from analyzer_service.reading.kind import file_type
from analyzer_service.reading.row import Fault, Row, Unreadable
from imts_shared.contracts.datasets import FileType
from imts_shared.storage import Storage

__all__ = ["FILE_TYPES", "Fault", "Row", "Unreadable", "column_names", "file_type", "head_of", "rows"]

FILE_TYPES: frozenset[str] = frozenset(get_args(FileType))
_HEAD = 64 * 1024


def head_of(storage: Storage, key: str) -> bytes:
    with storage.open(key) as file:
        return file.read(_HEAD)


def column_names(storage: Storage, key: str) -> list[str]:
    """The header of a CSV file."""
    with storage.open(key) as file:
        return csv_text.column_names(file)


def rows(storage: Storage, key: str, kind: str, scratch: Path, skip: int = 0) -> Iterator[Row]:
    """All rows but the first `skip`; those are passed over without being taken apart where that can be."""
    if kind == "parquet":
        path = storage.local_path(key)
        if path is None:
            path = scratch / "data.parquet"
            storage.download(key, path)
        if path.stat().st_size:
            yield from parquet.batches(path, skip)
        return
    with storage.open(key) as file:
        if kind == "jsonl":
            yield from json_text.lines(file, skip)
        elif kind == "json":
            yield from json_text.array(file, skip)
        else:
            yield from csv_text.table(file, skip)
