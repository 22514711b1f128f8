"""Every format, good and bad, by exact line and code; and no bytes at all make the inspection fall over."""

import json
from pathlib import Path
from typing import Any

import polars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer_service.inspect.inspection import LISTED, inspect, preview
from imts_shared.contracts.datasets import DatasetFormat, Inspection
from imts_shared.storage import Storage
from tests.analyzer.alone import inspected_alone

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
CALLED = [
    {"role": "user", "content": "How is the weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    {"role": "assistant", "content": "Sunny."},
]


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": who, "value": what} for who, what in pairs]


GOOD: dict[str, list[dict[str, Any]]] = {
    "alpaca": [
        {"instruction": "Say hi.", "input": "", "output": "hi"},
        {"instruction": "Go on.", "output": "on", "history": [["a", "b"]], "system": "Be kind."},
    ],
    "sharegpt": [
        {"conversations": turns(("system", "s"), ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"))},
        {
            "conversations": turns(
                ("human", "a"), ("function_call", '{"name": "f", "arguments": {}}'), ("observation", "1"), ("gpt", "b")
            ),
            "tools": json.dumps(TOOLS),
        },
    ],
    "messages": [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"messages": CALLED, "tools": TOOLS},
    ],
    "preference": [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {
            "conversations": turns(("human", "a")),
            "chosen": {"from": "gpt", "value": "b"},
            "rejected": {"from": "gpt", "value": "c"},
        },
        {"chosen": CALLED, "rejected": [*CALLED[:-1], {"role": "assistant", "content": "Rain."}]},
        {"prompt": CALLED[:1], "chosen": CALLED[3:], "rejected": [{"role": "assistant", "content": "Rain."}]},
        {"messages": CALLED[:3], "chosen": CALLED[3], "rejected": {"role": "assistant", "content": "Rain."}},
    ],
    "kto": [
        {"prompt": "a", "completion": "b", "label": True},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "kto_tag": False},
        {"prompt": CALLED[:1], "completion": CALLED[1:], "label": True},
        {"instruction": "a", "input": "", "output": "b", "kto_tag": True},
    ],
    "text": [{"text": "Once upon a time."}],
}

BAD: list[tuple[str, Any, str]] = [
    ("alpaca", {"instruction": "a"}, "missing_field"),
    ("alpaca", {"instruction": "a", "output": ""}, "empty_field"),
    ("alpaca", {"instruction": "a", "output": 3}, "wrong_type"),
    ("alpaca", {"instruction": "a", "output": "b", "history": ["x"]}, "wrong_type"),
    ("alpaca", ["a", "b"], "not_an_object"),
    ("alpaca", {"text": "a"}, "other_format"),
    ("alpaca", {"instruction": "a", "output": "b\0"}, "nul_character"),
    ("sharegpt", {"conversations": []}, "no_turns"),
    ("sharegpt", {"conversations": "a"}, "wrong_type"),
    ("sharegpt", {"conversations": turns(("human", "a"))}, "last_turn_not_assistant"),
    ("sharegpt", {"conversations": turns(("gpt", "a"), ("human", "b"))}, "roles_not_alternating"),
    ("sharegpt", {"conversations": turns(("human", "a"), ("robot", "b"))}, "unknown_role"),
    ("sharegpt", {"conversations": turns(("human", "a"), ("gpt", " "))}, "empty_turn"),
    ("sharegpt", {"conversations": turns(("human", "a"), ("function_call", "f()"))}, "invalid_tool_call"),
    ("sharegpt", {"conversations": [{"value": "a"}]}, "missing_field"),
    ("sharegpt", {"conversations": [{"from": {}, "value": "a"}]}, "unknown_role"),
    ("sharegpt", {"conversations": [{"from": "human", "value": None}]}, "missing_field"),
    (
        "sharegpt",
        {"conversations": turns(("human", "a"), ("gpt", "b"), ("observation", "c"), ("gpt", "d"))},
        "tool_result_without_call",
    ),
    (
        "sharegpt",
        {"conversations": turns(("human", "a"), ("function_call", '{"name": "f", "arguments": "x"}'))},
        "invalid_tool_call",
    ),
    ("sharegpt", {"conversations": turns(("human", "a"), ("gpt", "b")), "tools": "{"}, "invalid_tools"),
    ("messages", {"messages": [{"role": "user", "content": "a"}]}, "last_turn_not_assistant"),
    ("messages", {"messages": [*CALLED[:1], CALLED[2], CALLED[3]]}, "tool_result_without_call"),
    ("messages", {"messages": [{"role": "user", "content": "a"}] * 2}, "roles_not_alternating"),
    ("messages", {"messages": [{"role": "bot", "content": "a"}]}, "unknown_role"),
    (
        "messages",
        {"messages": [CALLED[0], {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "invalid_tool_call",
    ),
    ("messages", {"messages": CALLED, "tools": [{"function": {}}]}, "invalid_tools"),
    ("messages", {"messages": [{"role": ["user"], "content": "a"}]}, "unknown_role"),
    ("messages", {"messages": [{"role": "assistant", "content": "a"}]}, "roles_not_alternating"),
    ("messages", {"messages": [*CALLED[:3], CALLED[0], CALLED[3]]}, "roles_not_alternating"),
    ("messages", {"messages": [{"role": "system", "content": "a"}] * 2}, "misplaced_system"),
    ("messages", {"messages": [*CALLED[:2], {**CALLED[2], "tool_call_id": ["c1"]}, CALLED[3]]}, "wrong_type"),
    ("messages", {"messages": [*CALLED[:2], {**CALLED[2], "tool_call_id": "c2"}]}, "tool_result_without_call"),
    ("messages", {"messages": [{"role": "user", "content": ["a"]}, CALLED[3]]}, "wrong_type"),
    ("messages", {"messages": [{"role": "user", "content": []}, CALLED[3]]}, "empty_turn"),
    ("messages", {"messages": [{"role": "user", "tool_calls": [CALL]}, CALLED[3]]}, "invalid_tool_call"),
    ("preference", {"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen_equals_rejected"),
    ("preference", {"chosen": "b", "rejected": "c"}, "missing_field"),
    ("preference", {"prompt": "a", "chosen": "b"}, "missing_field"),
    ("preference", {"instruction": "a", "rejected": "b"}, "missing_field"),
    ("preference", {"prompt": "a", "chosen": 1, "rejected": "b"}, "wrong_type"),
    ("preference", {"prompt": "a", "chosen": " ", "rejected": "b"}, "empty_field"),
    ("preference", {"chosen": CALLED, "rejected": [{"role": "alien", "content": "b"}]}, "unknown_role"),
    (
        "preference",
        {"conversations": turns(("human", "a"), ("gpt", "b")), "chosen": "c", "rejected": "d"},
        "last_turn_not_user",
    ),
    (
        "preference",
        {"prompt": "a", "chosen": {"from": "human", "value": "b"}, "rejected": {"from": "gpt", "value": "c"}},
        "last_turn_not_assistant",
    ),
    ("kto", {"prompt": "a", "completion": "b"}, "missing_field"),
    ("kto", {"prompt": "a", "label": True}, "missing_field"),
    ("kto", {"prompt": "a", "completion": "b", "label": "yes"}, "wrong_type"),
    ("kto", {"prompt": "a", "completion": "b", "label": 1}, "wrong_type"),
    ("text", {"text": ""}, "empty_field"),
]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path.as_uri())


def judged(storage: Storage, content: bytes, name: str = "data.jsonl", form: str | None = None) -> Inspection:
    storage.put_bytes("uploads/x", content)
    return inspect(storage, "uploads/x", name, DatasetFormat(form) if form else None)


def jsonl(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.mark.parametrize("form", GOOD)
def test_good_rows_are_recognised_in_every_file_type(storage: Storage, form: str, tmp_path: Path) -> None:
    rows = GOOD[form]
    for name, content in {"a.jsonl": jsonl(*rows), "a.json": json.dumps(rows).encode()}.items():
        found = judged(storage, content, name)
        assert (found.format, found.rows, found.bad_rows, found.problems) == (form, len(rows), 0, [])
        assert found.file_type == name.removeprefix("a.")
        assert found.sample == rows
    if form in {"alpaca", "text"}:
        frame = polars.DataFrame([{k: v for k, v in row.items() if isinstance(v, str)} for row in rows])
        frame.write_parquet(tmp_path / "a.parquet")
        frame.write_csv(tmp_path / "a.csv")
        for kind in ("parquet", "csv"):
            found = judged(storage, (tmp_path / f"a.{kind}").read_bytes(), f"a.{kind}")
            assert (found.file_type, found.format, found.rows, found.bad_rows) == (kind, form, len(rows), 0)


@pytest.mark.parametrize(("form", "row", "code"), BAD, ids=[f"{f}-{c}-{n}" for n, (f, _, c) in enumerate(BAD)])
def test_a_bad_row_is_reported_by_line_and_reason(storage: Storage, form: str, row: Any, code: str) -> None:
    good = GOOD[form][0]
    found = judged(storage, jsonl(good, good, row, good))
    assert (found.format, found.rows, found.bad_rows) == (form, 4, 1)
    assert {(problem.line, problem.code) for problem in found.problems} == {(3, code)}
    assert found.problems[0].message.endswith(".")


def test_several_tools_may_be_called_at_once(storage: Storage) -> None:
    calls = [CALL, {**CALL, "id": "c2"}]
    results = [CALLED[2], {**CALLED[2], "tool_call_id": "c2"}]
    row = {"messages": [CALLED[0], {"role": "assistant", "tool_calls": calls}, *results, CALLED[3]]}
    assert judged(storage, jsonl(row)).problems == []


def test_no_rows_at_all_is_a_problem_too(storage: Storage) -> None:
    for name, content in {"a.json": b"[]", "a.csv": b"instruction,output\n"}.items():
        found = judged(storage, content, name)
        assert (found.rows, [p.code for p in found.problems]) == (0, ["no_rows"])


def test_the_sample_stays_small(storage: Storage) -> None:
    wide = {"text": "a", **{f"f{n}": [["x" * 3_000] * 300] for n in range(3)}}
    found = judged(storage, jsonl(*[wide] * 3))
    assert found.bad_rows == 0
    assert len(found.sample) == 3
    assert len(found.model_dump_json()) < 3 * 64 * 1024


def test_lines_are_the_files_lines(storage: Storage) -> None:
    good = json.dumps(GOOD["alpaca"][0]).encode()
    content = b"\xef\xbb\xbf" + b"\n".join([good, b"", b'{"instruction": ', good, b"\xff\xfe{}", good])
    found = judged(storage, content)
    assert [(p.line, p.code) for p in found.problems] == [(3, "invalid_json"), (5, "not_utf8")]
    assert found.rows == 5
    csv = b'instruction,output\n"two\nlines",a\nb\nc,d\ne,\n'
    found = judged(storage, csv, "data.csv")
    assert [(p.line, p.code) for p in found.problems] == [(4, "wrong_column_count"), (6, "missing_field")]


@pytest.mark.parametrize(
    ("content", "name", "code"),
    [
        (b"", "a.jsonl", "empty_file"),
        (b" \n\n", "a.json", "empty_file"),
        (b"\x1f\x8b\x08\x00", "a.jsonl", "compressed"),
        (b"PK\x03\x04", "a.csv", "compressed"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "a.png", "not_utf8"),
        (b"[1, 2", "a.json", "invalid_json"),
        (b"PAR1nonsense", "a.parquet", "invalid_parquet"),
        ("häuser".encode("utf-16"), "a.txt", "not_utf8"),
    ],
)
def test_what_is_no_data_set_says_so(storage: Storage, content: bytes, name: str, code: str) -> None:
    found = judged(storage, content, name)
    assert found.rows == 0
    assert [p.code for p in found.problems] == [code]


def test_an_asked_format_is_what_rows_are_held_to(storage: Storage) -> None:
    found = judged(storage, jsonl({"text": "a"}), form="alpaca")
    assert (found.format, found.bad_rows) == ("alpaca", 1)
    found = judged(storage, jsonl({"a": 1}))
    assert (found.format, [p.code for p in found.problems]) == ("unknown", ["unknown_format"])


def test_many_problems_are_all_counted_and_the_first_listed(storage: Storage) -> None:
    found = judged(storage, b'{"text": "a"}\n' + b"x\n" * (LISTED + 500))
    assert found.bad_rows == LISTED + 500
    assert len(found.problems) == LISTED


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["a.json", "a.jsonl", "a.csv", "a.parquet", "a"]))
def test_any_bytes_get_an_answer(storage: Storage, content: bytes, name: str) -> None:
    found = judged(storage, content, name)
    assert found.bad_rows <= max(found.rows, 1)
    Inspection.model_validate_json(found.model_dump_json(by_alias=True))


NAMES = st.sampled_from([
    "role", "content", "from", "value", "messages", "conversations", "tools", "tool_calls", "id", "function", "name",
    "arguments", "tool_call_id", "type", "text", "chosen", "rejected", "prompt", "completion", "label", "kto_tag",
    "instruction", "input", "output", "history", "system", "parameters",
])  # fmt: skip
WORDS = st.sampled_from([
    "user", "assistant", "tool", "system", "human", "gpt", "function_call", "observation", "text", "{", "[]", "{}", "a",
])  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=25
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.dictionaries(NAMES, TREES, min_size=1, max_size=5), min_size=1, max_size=3), st.sampled_from(list(GOOD))
)
def test_known_names_over_any_content_get_an_answer(storage: Storage, rows: list[Any], form: str) -> None:
    """Bytes at random never get past the JSON parser; these get into every check."""
    found = judged(storage, jsonl(*rows), form=form)
    assert found.rows == len(rows)
    assert found.bad_rows <= len(rows)


def test_preview_skips_and_shows_why_a_row_is_unreadable(storage: Storage) -> None:
    judged(storage, jsonl({"text": "a"}) + b"x\n" + jsonl({"text": "b"}))
    assert preview(storage, "uploads/x", "jsonl", 2, 5) == [{"text": "b"}]
    assert preview(storage, "uploads/x", "jsonl", 0, 2)[1]["line"] == 2


@pytest.mark.slow
def test_a_large_file_is_read_in_bounded_memory(storage: Storage, tmp_path: Path) -> None:
    row = json.dumps({"instruction": "a" * 500, "output": "b" * 500}).encode() + b"\n"
    with (tmp_path / "big").open("wb") as file:
        for _ in range(200):
            file.write(row * 1_000)
    found, grown = inspected_alone(storage, "big", "big.jsonl")
    assert found.rows == 200_000
    assert grown < 60, f"{grown:.0f} MiB for a file of 200 MB"
