"""A real worker, real messages, real children: the ways that an attempt can go."""

from pathlib import Path

import pytest

from tests.shared.conftest import WorkerProcess, until
from tests.shared.fake_control_plane import FakeJob


def test_a_job_runs_and_its_result_comes_back_once(worker: WorkerProcess) -> None:
    job = FakeJob({"do": "echo", "text": "héllo"})
    outcome = worker.run(job)
    assert outcome["status"] == "succeeded"
    assert outcome["result"]["echo"] == "héllo"
    assert outcome["result"]["nul"] == "a\ufffdb"
    assert not [name for name in outcome["result"]["env"] if name.startswith("IMTS_")]
    until(lambda: not Path(outcome["result"]["cwd"]).exists(), what="scratch removed")


def test_metrics_progress_and_lines_arrive_whole_and_in_order(worker: WorkerProcess) -> None:
    job = FakeJob({"do": "talk", "steps": 3000})
    assert worker.run(job)["status"] == "succeeded"
    assert [m["step"] for m in job.events("metric")] == list(range(1, 3001))
    assert job.events("progress")[-1] == {"step": 3000, "totalSteps": 3000, "percent": 100.0}
    assert len(job.events("progress")) < 30
    lines = job.lines()
    assert [text for text in lines if text.startswith("line ")] == [f"line {n}" for n in range(1, 3001)]
    assert {"printed", "complained"} <= set(lines)
    assert all(len(b["events"]) <= 500 and len(b["logs"]) <= 1000 for b in job.applied)


def test_lost_answers_change_nothing(worker: WorkerProcess) -> None:
    worker.plane.claim_faults.extend(["drop", "lose", "503"])
    worker.plane.faults.extend(["drop", "lose", "503", "drop", "slow", "lose", "drop", "drop"])
    job = FakeJob({"do": "talk", "steps": 60, "pause": 0.02})
    assert worker.run(job)["status"] == "succeeded"
    assert [m["step"] for m in job.events("metric")] == list(range(1, 61))
    assert [text for text in job.lines() if text.startswith("line ")] == [f"line {n}" for n in range(1, 61)]


@pytest.mark.parametrize(
    ("do", "reason", "words"),
    [
        ("bad_data", "bad_data", "Row 7 is broken."),
        ("crash", "engine_error", "ValueError: something odd\n  at engines.py"),
        ("memory", "out_of_memory", "ran out of memory"),
        ("full_disk", "out_of_disk", "No space left"),
        ("exit", "engine_error", "exit code 3"),
    ],
)
def test_failures_have_a_reason_and_words(worker: WorkerProcess, do: str, reason: str, words: str) -> None:
    job = FakeJob({"do": do})
    outcome = worker.run(job)
    assert (outcome["status"], outcome["reason"]) == ("failed", reason)
    assert words in outcome["message"]
    if do == "crash":
        assert "Traceback (most recent call last):" in job.lines()


def test_an_artifact_lies_under_the_attempt_before_it_is_named(worker: WorkerProcess) -> None:
    job = FakeJob({"do": "artifact"})
    key = worker.run(job)["result"]["key"]
    (named,) = job.events("artifact")
    assert named["key"] == key and named["bytes"] == 5
    assert (worker.home / "storage" / key).read_text() == "hello"


def test_a_second_delivery_and_a_wrong_token_are_dropped(worker: WorkerProcess) -> None:
    job = FakeJob({"do": "talk", "steps": 20, "pause": 0.02})
    job_id = worker.send(job)
    worker.ring(job_id, job)
    stranger = FakeJob({"do": "echo"}, token="right")
    worker.plane.jobs["stranger"] = stranger
    worker.ring("stranger", FakeJob({}, token="wrong"))
    assert worker.outcome(job)["status"] == "succeeded"
    assert len(job.events("metric")) == 20
    until(lambda: worker.log.read_text().count("message dropped") == 2, what="both dropped")
    assert stranger.claim_id is None
