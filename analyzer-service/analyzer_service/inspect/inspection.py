"""Inspecting a whole file in one pass and bounded memory."""

import math
import tempfile
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from analyzer_service import reading
from analyzer_service.inspect.formats import format_of, recognise
from analyzer_service.inspect.rows import faults_of
from imts_shared.contracts.datasets import DatasetFormat, Inspection, RowProblem
from imts_shared.storage import Storage

LISTED = 10_000
SAMPLED = 20
LOOKED_AT = 100
LONGEST_SAMPLE_TEXT = 2_000
LARGEST_SAMPLE = 64 * 1024
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
            if kind == "csv" and self._format is None:
                self._format = self._format_of_header()
            rows = reading.rows(self._storage, self._key, kind, self._scratch)
            self._read(rows)
        except reading.Unreadable as error:
            self._stop_at(error)
            self._note(error.line, error.code, error.message)
        if not self._rows and not self._problems:
            self._note(1, "no_rows", "The file holds no rows.")
        return Inspection(
            file_type=kind,
            format=self._format or DatasetFormat.unknown,
            rows=self._rows,
            bad_rows=self._bad,
            problems=self._problems,
            columns=list(self._columns),
            sample=self._sample,
        )

    def _stop_at(self, error: reading.Unreadable) -> None:
        """A file without one good row up to there is no data set at all: it counts as holding no rows."""
        if self._rows == self._bad:
            self._rows, self._bad, self._problems = 0, 1, []
        else:
            self._rows += 1
            self._bad += 1

    def _format_of_header(self) -> DatasetFormat | None:
        """Columns have names even where no row can be read. A lone unknown one is what any text file looks like."""
        names = reading.column_names(self._storage, self._key)
        form = format_of(dict.fromkeys(names))
        if form == DatasetFormat.unknown and len(names) == 1:
            message = f"The first line, {names[0][:50]!r}, names no column of a known format."
            raise reading.Unreadable("not_a_data_set", message)
        return None if form == DatasetFormat.unknown else form

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
            self._sample.append(_shown(row.content))

    def _note(self, line: int, code: str, message: str) -> None:
        if len(self._problems) < LISTED:
            self._problems.append(RowProblem(line=line, code=code, message=_clean(message)[:_LONGEST_MESSAGE]))


def preview(storage: Storage, key: str, kind: Any, offset: int, limit: int) -> list[Any]:
    """Rows as they are; one that cannot be read shows why."""
    with tempfile.TemporaryDirectory(prefix="imts-preview-") as scratch:
        found: list[Any] = []
        try:
            rows = islice(reading.rows(storage, key, kind, Path(scratch), skip=offset), limit)
            found.extend(map(_previewed, rows))
        except reading.Unreadable as error:
            found.append({"line": error.line, "unreadable": error.message})
        return found


def _previewed(row: reading.Row) -> Any:
    return {"line": row.line, "unreadable": row.fault.message} if row.fault else _shown(row.content)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _shown(content: Any) -> Any:
    """Small enough to keep and to show, and such as JSON can say. What stays too large is cut shorter."""
    for longest, most in ((LONGEST_SAMPLE_TEXT, 200), (200, 20)):
        cut = _cut(content, longest, most)
        if len(orjson.dumps(cut)) <= LARGEST_SAMPLE:
            return cut
    return _cut(content, 40, 5, deepest=4)


def _cut(value: Any, longest: int, most: int, deepest: int = 20) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if deepest == 0:
        return "…"
    if isinstance(value, dict):
        items = islice(value.items(), most)
        return {_clean(str(name))[:longest]: _cut(item, longest, most, deepest - 1) for name, item in items}
    if isinstance(value, list | tuple):
        return [_cut(item, longest, most, deepest - 1) for item in islice(value, most)]
    text = _clean(str(value))
    return text if len(text) <= longest else text[:longest] + "…"
