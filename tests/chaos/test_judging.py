"""The judge of chaos can tell: each kind of harm, done on purpose, is named."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import judging
from tests.chaos.rounds import Submitted

JOB = Submitted("j", steps=3)


def state(seq: int, name: str, attempt: int) -> dict[str, Any]:
    return {"seq": seq, "type": "state", "data": {"state": name, "attempt": attempt}}


def metric(seq: int, step: int, attempt: int) -> dict[str, Any]:
    return {"seq": seq, "type": "metric", "data": {"step": step, "attempt": attempt}}


def test_a_missing_or_doubled_event() -> None:
    assert judging._events_whole([state(1, "queued", 0), state(2, "running", 1)]) is None
    assert judging._events_whole([state(1, "queued", 0), state(3, "running", 1)])
    assert judging._events_whole([state(1, "queued", 0), state(1, "queued", 0)])
    assert judging._watched([state(1, "queued", 0)], [])


def test_a_dead_writer_and_a_doubled_step() -> None:
    whole = [state(1, "running", 1), metric(2, 1, 1), state(3, "queued", 1), state(4, "running", 2), metric(5, 1, 2)]
    assert judging._no_dead_writer(whole) is None
    assert judging._no_dead_writer([*whole, metric(6, 2, 1)])
    assert judging._no_dead_writer([*whole, metric(6, 1, 2)])
    assert judging._no_dead_writer([state(1, "queued", 0), metric(2, 1, 1)])


@pytest.mark.parametrize(
    ("ticks", "harm"),
    [
        ([(1, 7, 1), (1, 7, 2), (2, 8, 2), (2, 8, 3)], None),
        ([(1, 7, 1), (2, 8, 1), (1, 7, 2)], "ran at once"),
        ([(1, 7, 1), (1, 9, 2)], "two processes"),
        ([(1, 7, 1), (1, 7, 3)], "went from step"),
    ],
)
def test_two_runners(tmp_path: Path, ticks: list[tuple[int, int, int]], harm: str | None) -> None:
    lines = [json.dumps({"attempt": attempt, "pid": pid, "step": step}) for attempt, pid, step in ticks]
    (tmp_path / "j.jsonl").write_text("\n".join(lines))
    found = judging._one_runner(SimpleNamespace(ticks=tmp_path), JOB)  # type: ignore[arg-type]
    assert (harm is None and found is None) or (harm is not None and found is not None and harm in found)


def test_a_wrong_end_and_a_lost_step() -> None:
    ended = {"state": "failed", "reason": "worker_lost", "error": None}
    assert judging._ended(JOB, ended)
    assert judging._ended(JOB, {**ended, "state": "succeeded"}) is None
    assert judging._every_step(JOB, {"state": "succeeded"}, [1, 2, 3]) is None
    assert judging._every_step(JOB, {"state": "succeeded"}, [1, 3])
