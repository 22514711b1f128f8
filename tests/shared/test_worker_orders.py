"""Stop, pause, timeout, shutdown, and the deaths of child and worker."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.shared.conftest import WorkerProcess, alive, until
from tests.shared.fake_control_plane import FakeJob


def ticking(folder: Path, **more: Any) -> FakeJob:
    spec = {"do": "tick", "ticks": str(folder / "ticks"), "pid_file": str(folder / "pid"), **more.pop("spec", {})}
    return FakeJob(spec, **more)


def ticks(job: FakeJob) -> int:
    try:
        return Path(job.spec["ticks"]).stat().st_size
    except FileNotFoundError:
        return 0


def child_of(job: FakeJob) -> int:
    until(lambda: ticks(job) > 3, what="the engine works")
    return int(Path(job.spec["pid_file"]).read_text())


def test_stop_lets_the_engine_save_its_work(worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path)
    job_id = worker.send(job)
    child_of(job)
    job.order = "stop"
    outcome = worker.outcome(job)
    assert (outcome["status"], outcome["reason"]) == ("stopped", "user_stopped")
    (checkpoint,) = job.events("checkpoint")
    assert checkpoint["prefix"] == f"jobs/{job_id}/1/checkpoints/step-{checkpoint['step']}"
    assert (worker.home / "storage" / checkpoint["prefix"] / "manifest.json").is_file()


def test_a_paused_job_goes_on_from_its_checkpoint(worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path)
    worker.send(job)
    child_of(job)
    job.order = "pause"
    assert worker.outcome(job)["reason"] == "user_paused"
    (checkpoint,) = job.events("checkpoint")
    again = FakeJob({"do": "resume"}, attempt=2, resume_from=checkpoint)
    assert worker.run(again)["result"] == {"count": checkpoint["step"]}


def test_a_checkpoint_that_changed_is_not_resumed_from(worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path)
    worker.send(job)
    child_of(job)
    job.order = "pause"
    worker.outcome(job)
    (checkpoint,) = job.events("checkpoint")
    (worker.home / "storage" / checkpoint["prefix"] / "count.txt").write_text("999999")
    outcome = worker.run(FakeJob({"do": "resume"}, attempt=2, resume_from=checkpoint))
    assert outcome["status"] == "failed" and "has changed" in outcome["message"]


def test_an_engine_that_does_not_heed_is_ended_after_its_grace(worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path, grace=0.3, spec={"deaf": True})
    worker.send(job)
    pid = child_of(job)
    job.order = "stop"
    asked = time.monotonic()
    assert worker.outcome(job)["status"] == "stopped"
    assert time.monotonic() - asked < 4
    assert not alive(pid)


def test_an_attempt_ends_at_its_timeout(worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path, timeout=1)
    outcome = worker.run(job)
    assert (outcome["status"], outcome["reason"]) == ("failed", "timeout")
    assert job.events("checkpoint")


def test_a_killed_child_is_told_as_killed(worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path)
    worker.send(job)
    os.kill(child_of(job), signal.SIGKILL)
    outcome = worker.outcome(job)
    assert (outcome["status"], outcome["reason"]) == ("failed", "engine_killed")
    assert "SIGKILL" in outcome["message"]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def with_grandchild(folder: Path, **more: Any) -> FakeJob:
    return ticking(folder, spec={"do": "grandchild", "grandchild_file": str(folder / "grandchild")}, **more)


def grandchild_of(folder: Path) -> int:
    return int((folder / "grandchild").read_text())


def test_a_killed_guard_takes_the_engine_with_it(worker: WorkerProcess, tmp_path: Path) -> None:
    job = with_grandchild(tmp_path)
    worker.send(job)
    pid = child_of(job)
    os.kill(parent_of(pid), signal.SIGKILL)
    assert worker.outcome(job)["reason"] == "engine_killed"
    until(lambda: not alive(pid) and not alive(grandchild_of(tmp_path)), 2, "both are gone")


def test_a_guard_that_stands_still_does_not_save_the_engine(worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path, grace=0.2, spec={"deaf": True})
    worker.send(job)
    pid = child_of(job)
    os.kill(parent_of(pid), signal.SIGSTOP)
    job.order = "stop"
    assert worker.outcome(job)["status"] == "stopped"
    assert not alive(pid)


def test_a_killed_forkserver_costs_its_attempts_and_no_more(own_worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path)
    own_worker.send(job)
    pid = child_of(job)
    os.kill(parent_of(parent_of(pid)), signal.SIGKILL)
    assert own_worker.outcome(job)["reason"] == "engine_killed"
    assert not alive(pid)
    assert own_worker.run(FakeJob({"do": "echo"}))["status"] == "succeeded"


def test_what_the_engine_started_dies_with_it(worker: WorkerProcess, tmp_path: Path) -> None:
    job = with_grandchild(tmp_path)
    worker.send(job)
    os.kill(child_of(job), signal.SIGKILL)
    worker.outcome(job)
    until(lambda: not alive(grandchild_of(tmp_path)), 2, "the grandchild is gone")


def test_a_refused_attempt_is_killed_at_once(worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path, beat=0.2)
    worker.send(job)
    pid = child_of(job)
    job.over = True
    until(lambda: not alive(pid), 3, "the child is gone")
    assert job.outcome is None


def test_a_worker_told_to_end_gives_its_job_back(own_worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path)
    own_worker.send(job)
    pid = child_of(job)
    asked = time.monotonic()
    os.killpg(own_worker.process.pid, signal.SIGTERM)
    outcome = own_worker.outcome(job)
    assert (outcome["status"], outcome["reason"]) == ("released", "worker_shutdown")
    assert job.events("checkpoint")
    assert own_worker.process.wait(10) == 0
    assert time.monotonic() - asked < 8
    assert not alive(pid)
    assert own_worker.worker_id in own_worker.plane.left
    assert own_worker.plane.workers[own_worker.worker_id]["draining"]
    assert not list((own_worker.home / "scratch" / "test-service").iterdir())


@pytest.mark.slow
def test_a_worker_told_to_end_does_not_wait_for_a_control_plane_that_is_away(
    own_worker: WorkerProcess, tmp_path: Path
) -> None:
    job = ticking(tmp_path, grace=0.5)
    own_worker.send(job)
    child_of(job)
    own_worker.plane.down()
    try:
        own_worker.signal(signal.SIGTERM)
        own_worker.process.wait(19)
    finally:
        own_worker.plane.up()
    assert job.outcome is None


@pytest.mark.parametrize("how", ["alone", "with its group", "while its engine is frozen"])
def test_a_killed_worker_leaves_nothing_running(own_worker: WorkerProcess, tmp_path: Path, how: str) -> None:
    frozen = how == "while its engine is frozen"
    job = with_grandchild(tmp_path, lease=1.0 if frozen else 20.0, beat=0.2)
    own_worker.send(job)
    pid = child_of(job)
    below = [*own_worker.descendants(), grandchild_of(tmp_path)]
    assert pid in below
    if frozen:
        own_worker.plane.silent = True
        until(lambda: "attempt frozen" in own_worker.log.read_text(), 5, "frozen")
    if how == "with its group":
        os.killpg(own_worker.process.pid, signal.SIGKILL)
    else:
        own_worker.signal(signal.SIGKILL)
    own_worker.plane.silent = False
    until(lambda: not any(alive(one) for one in below), 3, "nothing is left")


def test_scratch_of_a_killed_worker_is_swept_up_by_the_next(own_worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path)
    own_worker.send(job)
    child_of(job)
    own_worker.end()
    scratch = own_worker.home / "scratch" / "test-service"
    assert list(scratch.iterdir())
    after = WorkerProcess(own_worker.plane, own_worker.valkey, own_worker.home)
    try:
        assert [folder.name for folder in scratch.iterdir()] == [after.worker_id]
    finally:
        after.end()
