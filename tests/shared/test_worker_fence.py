"""No second runner: what happens to a child while nobody confirms that its attempt is still its own."""

import signal
import time
from pathlib import Path

from imts_shared.worker.fence import Fence
from tests.shared.conftest import WorkerProcess, alive, until
from tests.shared.fake_control_plane import FakeJob
from tests.shared.test_worker_orders import child_of, ticking, ticks


def stands_still(job: FakeJob) -> bool:
    """The kernel's own word: a busy machine may delay a tick, but it stops nobody."""
    pid = int(Path(job.spec["pid_file"]).read_text())
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_the_fence_ends_before_the_lease_does() -> None:
    now = time.monotonic()
    fence = Fence(10, now - 7)
    assert fence.holds()
    assert not Fence(10, now - 8).holds()
    fence.accepted(now, 10)
    assert Fence(10, now).holds() and fence.holds()


def test_refusals_prolong_a_lease_that_still_held_and_no_other() -> None:
    now = time.monotonic()
    held = Fence(10, now - 7.4)
    held.away(now - 0.5)
    assert held.holds()
    lost = Fence(10, now - 9)
    lost.away(now)
    assert not lost.holds()


def test_silence_freezes_before_the_lease_ends_and_an_answer_thaws(worker: WorkerProcess, tmp_path: Path) -> None:
    lease = 4.0
    job = ticking(tmp_path, lease=lease, beat=0.3)
    worker.send(job)
    child_of(job)
    worker.plane.silent = True
    until(lambda: stands_still(job), lease, "frozen")
    assert time.monotonic() - job.heard_at < lease
    worker.plane.silent = False
    until(lambda: not stands_still(job), 3, "thawed")
    job.order = "stop"
    assert worker.outcome(job)["status"] == "stopped"


def test_a_frozen_child_whose_attempt_was_given_away_dies(worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path, lease=1.5, beat=0.3)
    worker.send(job)
    pid = child_of(job)
    worker.plane.silent = True
    until(lambda: stands_still(job), 5, "frozen")
    stood = ticks(job)
    job.over = True
    worker.plane.silent = False
    until(lambda: not alive(pid), 3, "gone")
    assert ticks(job) == stood


def test_a_control_plane_that_is_away_does_not_stop_the_work(worker: WorkerProcess, tmp_path: Path) -> None:
    lease = 4.0
    job = ticking(tmp_path, lease=lease, beat=0.2)
    worker.send(job)
    child_of(job)
    worker.plane.down()
    try:
        time.sleep(0.5)
        ended = time.monotonic() + lease * 1.25
        worked = ticks(job)
        while time.monotonic() < ended:
            assert not stands_still(job)
            time.sleep(0.05)
        assert ticks(job) > worked
    finally:
        worker.plane.up()
    job.order = "stop"
    assert worker.outcome(job)["status"] == "stopped"


def test_what_was_said_while_the_control_plane_was_away_arrives_once(worker: WorkerProcess) -> None:
    job = FakeJob({"do": "talk", "steps": 300, "pause": 0.01}, lease=2.0, beat=0.2)
    worker.send(job)
    until(lambda: job.events("metric"), what="it talks")
    worker.plane.down()
    try:
        time.sleep(1.5)
    finally:
        worker.plane.up()
    assert worker.outcome(job)["status"] == "succeeded"
    assert [m["step"] for m in job.events("metric")] == list(range(1, 301))


def test_the_child_of_a_stopped_worker_freezes_itself(worker: WorkerProcess, tmp_path: Path) -> None:
    lease = 4.0
    job = ticking(tmp_path, lease=lease, beat=0.3)
    worker.send(job)
    child_of(job)
    worker.signal(signal.SIGSTOP)
    try:
        until(lambda: stands_still(job), lease, "frozen")
        assert time.monotonic() - job.heard_at < lease
        stood = ticks(job)
        time.sleep(1.5)
        assert ticks(job) == stood
    finally:
        worker.signal(signal.SIGCONT)
    until(lambda: not stands_still(job), 4, "thawed")
    job.order = "stop"
    assert worker.outcome(job)["status"] == "stopped"


def test_a_stopped_worker_that_wakes_too_late_kills_its_child(worker: WorkerProcess, tmp_path: Path) -> None:
    job = ticking(tmp_path, lease=3.0, beat=0.2)
    worker.send(job)
    pid = child_of(job)
    worker.signal(signal.SIGSTOP)
    until(lambda: stands_still(job), 4, "frozen")
    stood = ticks(job)
    time.sleep(1.2)
    job.over = True
    worker.signal(signal.SIGCONT)
    until(lambda: not alive(pid), 3, "gone")
    assert ticks(job) - stood <= 1
