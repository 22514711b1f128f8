"""Inspecting a whole file in one pass and bounded memory."""

import math
import tempfile
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from analyzer_service import reading
from analyzer_service.inspect.formats import recognise
from analyzer_service.inspect.rows import faults_of
from imts_shared.contracts.datasets import DatasetFormat, Inspection, RowProblem
from imts_shared.storage import Storage

LISTED = 10_000
SAMPLED = 20
LOOKED_AT = 100
LONGEST_SAMPLE_TEXT = 2_000
_LONGEST_MESSAGE = 500


def inspect(storage: Storage, key: str, file_name: str, asked: DatasetFormat | None = None) -> Inspection:
    with tempfile.TemporaryDirectory(prefix="imts-inspect-") as scratch:
        return _Pass(storage, key, file_name, asked, Path(scratch)).run()


class _Pass:
    def __init__(self, storage: Storage, key: str, file_name: str, asked: DatasetFormat | None, scratch: Path) -> None:
        self._storage, self._key, self._file_name, self._scratch = storage, key, file_name, scratch
        self._format = asked
        self._problems: list[RowProblem] = []
        self._rows = self._bad = 0
        self._columns: dict[str, None] = {}
        self._sample: list[dict[str, Any]] = []

    def run(self) -> Inspection:
        kind: Any = "jsonl"
        try:
            kind = reading.file_type(reading.head_of(self._storage, self._key), self._file_name)
            rows = reading.rows(self._storage, self._key, kind, self._scratch)
            self._read(rows)
        except reading.Unreadable as error:
            self._bad += 1
            self._rows += 1 if self._rows else 0
            self._note(error.line, error.code, error.message)
        return Inspection(
            file_type=kind,
            format=self._format or DatasetFormat.unknown,
            rows=self._rows,
            bad_rows=self._bad,
            problems=self._problems,
            columns=list(self._columns),
            sample=self._sample,
        )

    def _read(self, rows: Iterator[reading.Row]) -> None:
        """The first rows say which format it is; then all are checked, these ones too."""
        first: list[reading.Row] = []
        broken: reading.Unreadable | None = None
        try:
            first.extend(islice(rows, LOOKED_AT))
        except reading.Unreadable as error:
            broken = error
        if self._format is None:
            self._format = recognise([row.content for row in first])
        for row in chain(first, rows if broken is None else ()):
            self._check(row)
        if broken is not None:
            raise broken

    def _check(self, row: reading.Row) -> None:
        self._rows += 1
        faults = [row.fault] if row.fault else faults_of(row.content, self._format or DatasetFormat.unknown)
        if isinstance(row.content, dict) and len(self._columns) < 200:
            self._columns.update(dict.fromkeys(_clean(str(name))[:100] for name in row.content))
        if faults:
            self._bad += 1
            for fault in faults[:3]:
                self._note(row.line, fault.code, fault.message)
        elif len(self._sample) < SAMPLED:
            self._sample.append(_cut(row.content))

    def _note(self, line: int, code: str, message: str) -> None:
        if len(self._problems) < LISTED:
            self._problems.append(RowProblem(line=line, code=code, message=_clean(message)[:_LONGEST_MESSAGE]))


def preview(storage: Storage, key: str, kind: Any, offset: int, limit: int) -> list[Any]:
    """Rows as they are; one that cannot be read shows why."""
    with tempfile.TemporaryDirectory(prefix="imts-preview-") as scratch:
        found: list[Any] = []
        try:
            rows = islice(reading.rows(storage, key, kind, Path(scratch)), offset, offset + limit)
            found.extend(
                {"line": row.line, "unreadable": row.fault.message} if row.fault else _cut(row.content) for row in rows
            )
        except reading.Unreadable as error:
            found.append({"line": error.line, "unreadable": error.message})
        return found


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _cut(value: Any, depth: int = 0) -> Any:
    """Small enough to keep and to show, and such as JSON can say."""
    if isinstance(value, str):
        text = _clean(value)
        return text if len(text) <= LONGEST_SAMPLE_TEXT else text[:LONGEST_SAMPLE_TEXT] + "…"
    if depth > 20:
        return "…"
    if isinstance(value, dict):
        return {_clean(str(key)): _cut(item, depth + 1) for key, item in islice(value.items(), 200)}
    if isinstance(value, list | tuple):
        return [_cut(item, depth + 1) for item in islice(value, 200)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return orjson.loads(orjson.dumps(value, default=str))
