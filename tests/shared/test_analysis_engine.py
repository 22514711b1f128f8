"""The analysis engine over real files in real storage."""

import csv
import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from analyzer_service.engine import run
from analyzer_service.profile.duplicates import Duplicates
from analyzer_service.profile.lengths import Lengths
from imts_shared.contracts.internal import ClaimAnswer, DatasetInput
from imts_shared.contracts.jobs import JobKind
from imts_shared.storage import Storage
from imts_shared.worker.engine import BadData, EngineJob, Stopped

ROWS = [
    {"messages": [{"role": "user", "content": "hi there"}, {"role": "assistant", "content": "hello"}]},
    {"messages": [{"role": "user", "content": "one two three"}, {"role": "assistant", "content": "x" * 100}]},
    {"messages": [{"role": "user", "content": "hi there"}, {"role": "assistant", "content": "hello"}]},
]


class Desk:
    """A job's surroundings without a worker: what the engine sends is kept."""

    def __init__(self, folder: Path, content: bytes, file_type: str, rows: int = 0, form: str = "messages") -> None:
        self.storage = Storage(f"file://{folder}/storage")
        self.storage.put_bytes("datasets/ab/abc", content)
        scratch = folder / "scratch"
        scratch.mkdir()
        dataset = DatasetInput(
            id="d", name="set", version=1, sha256="abc", format=form, file_type=file_type,
            key="datasets/ab/abc", rows=rows, bytes=len(content),
        )  # fmt: skip
        claim = ClaimAnswer(
            job_id="j", kind=JobKind.analysis, project="default", attempt=1, spec={"dataset": "set"},
            inputs=[dataset], prefix="jobs/j/1/", lease_seconds=20, beat_seconds=2, stop_grace_seconds=5,
        )  # fmt: skip
        self.sent: list[bytes] = []
        self.job = EngineJob(claim, lambda: self.storage, scratch, self.sent.append)

    def events(self, kind: str) -> list[dict[str, Any]]:
        events = [orjson.loads(frame[1:]) for frame in self.sent if frame[:1] == b"E"]
        return [event["data"] for event in events if event["type"] == kind]


def jsonl(rows: list[Any]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def test_a_chat_data_set(tmp_path: Path) -> None:
    desk = Desk(tmp_path, jsonl(ROWS), "jsonl", 3)
    result = run(desk.job)
    assert result["rows"] == 3 and result["unreadableRows"] == 0
    assert result["columns"] == [{"name": "messages", "present": 3, "nulls": 0}]
    assert result["lengths"]["user"]["words"] == {
        "count": 3, "min": 2, "mean": 2.33, "p50": 2, "p95": 3, "p99": 3, "max": 3,
    }  # fmt: skip
    assert result["lengths"]["assistant"]["chars"]["max"] == 100
    assert result["turns"]["mean"] == 2
    assert result["duplicates"]["exact"] == {"groups": 1, "rows": 1, "examples": [{"count": 2, "lines": [1, 3]}]}
    assert desk.events("progress")[-1] == {"step": 3, "totalSteps": 3, "percent": 100.0}
    assert desk.events("metric")[-1]["rowsPerSecond"] > 0
    (artifact,) = desk.events("artifact")
    assert orjson.loads(desk.storage.get_bytes(artifact["key"]))["rows"] == 3


def test_every_file_type_says_the_same(tmp_path: Path) -> None:
    import polars

    rows = [{"instruction": f"do {n % 4}", "output": "done" if n % 3 else None} for n in range(10)]
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["instruction", "output"])
        writer.writeheader()
        writer.writerows(rows)
    polars.DataFrame(rows).write_parquet(tmp_path / "table.parquet")
    contents = {
        "jsonl": b"\xef\xbb\xbf" + jsonl(rows),
        "json": orjson.dumps(rows),
        "csv": table.read_bytes(),
        "parquet": (tmp_path / "table.parquet").read_bytes(),
    }
    said = []
    for file_type, content in contents.items():
        folder = tmp_path / file_type
        folder.mkdir()
        result = run(Desk(folder, content, file_type, 10).job)
        said.append({k: result[k] for k in ("rows", "columns", "lengths")})
        assert result["duplicates"]["exact"]["groups"] == 2 or file_type == "csv"
    assert said[0]["columns"] == [
        {"name": "instruction", "present": 10, "nulls": 0},
        {"name": "output", "present": 10, "nulls": 4},
    ]
    assert said[1:] == [said[0]] * 3


def test_kto_labels_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": str(n), "label": n % 4 == 0} for n in range(8)]
    assert run(Desk(tmp_path, jsonl(rows), "jsonl", 8, "kto").job)["labels"] == {"true": 2, "false": 6}


@pytest.mark.parametrize(
    ("file_type", "content"),
    [
        ("jsonl", b""),
        ("jsonl", b"\n\n"),
        ("json", b""),
        ("json", b"[]"),
        ("csv", b""),
        ("csv", b"a,b\n"),
        ("parquet", b""),
    ],
)
def test_empty_files_have_an_empty_profile(tmp_path: Path, file_type: str, content: bytes) -> None:
    result = run(Desk(tmp_path, content, file_type).job)
    assert result["rows"] == 0 and result["duplicates"]["exact"]["groups"] == 0


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    content = jsonl(ROWS[:1]) + b"{broken\nnull\n[1, 2]\n" + b'{"a\\u0000b": "x"}\n'
    result = run(Desk(tmp_path, content, "jsonl").job)
    assert (result["rows"], result["unreadableRows"]) == (5, 2)
    assert "a\ufffdb" in result["lengths"]


@pytest.mark.parametrize(("file_type", "content"), [("json", b"[1, 2"), ("parquet", b"PAR1 not really PAR1")])
def test_a_file_that_is_not_its_type_is_bad_data(tmp_path: Path, file_type: str, content: bytes) -> None:
    with pytest.raises(BadData):
        run(Desk(tmp_path, content, file_type).job)


def test_a_large_json_array_is_streamed(tmp_path: Path) -> None:
    rows = [{"text": "word " * 1000, "n": n / 2} for n in range(2000)]
    result = run(Desk(tmp_path, orjson.dumps(rows), "json", 2000).job)
    assert result["rows"] == 2000 and result["lengths"]["text"]["words"]["p50"] == 1000


def test_it_obeys_a_stop(tmp_path: Path) -> None:
    desk = Desk(tmp_path, jsonl(ROWS * 1000), "jsonl")
    desk.job.heed("stop")
    with pytest.raises(Stopped):
        run(desk.job)
    assert not desk.events("artifact")


def test_duplicates_on_disk_equal_duplicates_in_memory(tmp_path: Path) -> None:
    rows = [str(random.Random(n).randrange(700)).encode() for n in range(3000)]
    kept, spilled = Duplicates(tmp_path / "a"), Duplicates(tmp_path / "b", kept_in_memory=100)
    for line, row in enumerate(rows, 1):
        kept.add(row, line)
        spilled.add(row, line)
    assert kept.summary() == spilled.summary()
    assert kept.summary()["rows"] == 3000 - len(set(rows))


def test_quantiles_are_close_for_any_size() -> None:
    lengths = Lengths()
    generator = random.Random(2)
    values = sorted(generator.randrange(1, 3_000_000) for _ in range(20_000))
    for value in values:
        lengths.add(value)
    said = lengths.summary()
    assert said["min"] == values[0] and said["max"] == values[-1]
    for name, share in {"p50": 0.5, "p95": 0.95, "p99": 0.99}.items():
        exact = values[int(share * len(values)) - 1]
        assert abs(said[name] - exact) / exact < 0.016
