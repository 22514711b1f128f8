"""Rows out of files of every type: windows, limits, and what cannot be read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer_service import reading
from analyzer_service.inspect.inspection import inspect
from analyzer_service.reading import json_text
from imts_shared.storage import Storage
from tests.analyzer.alone import inspected_alone

ROWS = [{"text": f"row {n} äöü 😀"} for n in range(25)]
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES, lambda i: st.lists(i, max_size=4) | st.dictionaries(st.text(max_size=5), i, max_size=4), max_leaves=12
)
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path.as_uri())


def read(storage: Storage, content: bytes, kind: str, skip: int = 0) -> list[reading.Row]:
    storage.put_bytes("x", content)
    path = storage.local_path("x")
    assert path is not None
    return list(reading.rows(storage, "x", kind, path.parent, skip))


def contents(storage: Storage, content: bytes, kind: str, skip: int = 0) -> list[Any]:
    return [row.content for row in read(storage, content, kind, skip)]


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "_READ", 7)


@QUIET
@given(st.lists(VALUES, max_size=8), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_a_list_is_the_same_through_any_window(
    storage: Storage, small_window: None, rows: list[Any], indent: int | str | None, escaped: bool
) -> None:
    content = json.dumps(rows, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert contents(storage, content, "json") == rows


@QUIET
@given(st.binary(max_size=60), st.integers(0, 40))
def test_a_broken_list_gives_its_first_rows_then_says_where(
    storage: Storage, small_window: None, rubbish: bytes, at: int
) -> None:
    whole = json.dumps(ROWS[:3]).encode()
    rows: list[reading.Row] = []
    storage.put_bytes("x", whole[:at] + rubbish)
    try:
        rows.extend(reading.rows(storage, "x", "json", Path()))
    except reading.Unreadable as error:
        assert error.line == len(rows) + 1
    assert [row.line for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    ("content", "rows", "line", "code"),
    [
        (b'[{"text": "a"},\n {"text": "b"},\n {"text": }]', 2, 3, "invalid_json"),
        (b'[{"text": "a"}\n {"text": "b"}]', 1, 2, "invalid_json"),
        (b'[{"text": "a"},]', 1, 2, "invalid_json"),
        (b'[{"text": "a"}', 1, 2, "invalid_json"),
        (b'[{"text": "a', 0, 1, "invalid_json"),
        (b'[{"text": "a"}] []', 1, 2, "invalid_json"),
        (b'{"text": "a"} {"text": "b"}', 1, 2, "invalid_json"),
        (b'"text"', 0, 1, "not_a_list"),
        (b"[" * 100_000, 0, 1, "nested_too_deeply"),
    ],
)
def test_where_a_json_file_breaks(storage: Storage, content: bytes, rows: int, line: int, code: str) -> None:
    storage.put_bytes("x", content)
    found: list[reading.Row] = []

    def all_of_them() -> Iterator[reading.Row]:
        for row in reading.rows(storage, "x", "json", Path()):
            found.append(row)
            yield row

    with pytest.raises(reading.Unreadable) as broken:
        list(all_of_them())
    assert (len(found), broken.value.line, broken.value.code) == (rows, line, code)


def test_the_message_names_the_files_line(storage: Storage) -> None:
    storage.put_bytes("x", b'[\n {"text": "a"},\n {\n  "text": oops\n }\n]')
    with pytest.raises(reading.Unreadable, match=r"in line 4 \(row 2\)"):
        list(reading.rows(storage, "x", "json", Path()))


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b'{"a": 1, "a": 2}', "duplicate_field"),
        (b'{"a": {"b": [{"c": 1, "c": 1}]}}', "duplicate_field"),
        (b'{"a\\u0041": 1, "aA": 2}', "duplicate_field"),
        (b'{"a": 1, "b": ' + b"[" * 120 + b"]" * 120 + b"}", "nested_too_deeply"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b'{"a": "\\ud800"}', "invalid_json"),
        (b'{"a": NaN}', "invalid_json"),
        (b'{"a": 1, "b": ' + b"1" * 5_000 + b"}", "invalid_json"),
    ],
)
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_rows_that_parse_but_cannot_be_trusted(storage: Storage, row: bytes, code: str, kind: str) -> None:
    good = b'{"text": "he said \\"a\\": and \\\\"}'
    parts = [good, row, good]
    content = b"[" + b",\n".join(parts) + b"]" if kind == "json" else b"\n".join(parts)
    found = read(storage, content, kind)
    assert [(r.line, r.fault.code if r.fault else None) for r in found] == [(1, None), (2, code), (3, None)]


def test_skipping_gives_the_rest(storage: Storage, tmp_path: Path) -> None:
    frame = polars.DataFrame(ROWS)
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(tmp_path / "t.csv")
    files = {
        "json": json.dumps(ROWS).encode(),
        "jsonl": b"\n\n".join(json.dumps(row).encode() for row in ROWS),
        "csv": (tmp_path / "t.csv").read_bytes(),
        "parquet": (tmp_path / "t.parquet").read_bytes(),
    }
    for kind, content in files.items():
        assert contents(storage, content, kind) == ROWS
        assert contents(storage, content, kind, 20) == ROWS[20:]
        assert [row.line for row in read(storage, content, kind)][20:] == [
            row.line for row in read(storage, content, kind, 20)
        ]
        assert contents(storage, content, kind, 1_000) == []


@pytest.mark.parametrize(
    ("content", "line", "code"),
    [
        (b"instruction;output\na;b\n", 1, "wrong_delimiter"),
        (b"instruction\toutput\na\tb\n", 1, "wrong_delimiter"),
        (b"output,instruction,output\na,b,c\n", 1, "duplicate_column"),
        (b"Dear diary\nit rained\n", 1, "not_a_data_set"),
        (b'"instruction,output\na,b\n', 1, "invalid_csv"),
    ],
)
def test_a_header_that_is_none(storage: Storage, content: bytes, line: int, code: str) -> None:
    storage.put_bytes("x", content)
    found = inspect(storage, "x", "x.csv")
    assert (found.rows, [(p.line, p.code) for p in found.problems]) == (0, [(line, code)])


def test_csv_lines_count_through_quotes_and_old_line_ends(storage: Storage) -> None:
    content = b'\xef\xbb\xbftext,n\r\n"a\r\nb",1\r\n\r\nc\r\n"d"x,2\r\ne\xff,3\r\n"f,4\r\ng,5\r\n'
    found = read(storage, content, "csv")
    assert [(r.line, r.fault.code if r.fault else None) for r in found] == [
        (2, None), (5, "wrong_column_count"), (6, "invalid_csv"), (7, "not_utf8"), (8, "invalid_csv"),
    ]  # fmt: skip
    assert contents(storage, b"text,n\ra,1\rb,2", "csv") == [{"text": "a", "n": "1"}, {"text": "b", "n": "2"}]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_a_row_of_any_length_takes_bounded_memory(storage: Storage, tmp_path: Path, kind: str) -> None:
    """Three hundred megabytes in one row, and good rows around it."""
    before, after = {
        "json": (b'[{"text": "a"}, {"text": "', b'"}, {"text": "b"}]'),
        "jsonl": (b'{"text": "a"}\n{"text": "', b'"}\n{"text": "b"}\n'),
        "csv": (b"text,n\na,1\n", b",2\nb,3\n"),
    }[kind]
    with (tmp_path / "x").open("wb") as file:
        file.write(before)
        for _ in range(300):
            file.write(b"x" * 2**20)
        file.write(after)
    found, grown = inspected_alone(storage, "x", f"x.{kind}")
    assert grown < 200, f"{grown:.0f} MiB"
    assert found.bad_rows == 1
    assert found.problems[0].line == (3 if kind == "csv" else 2)
    assert found.rows == (2 if kind == "json" else 3)
