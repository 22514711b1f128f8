"""imts jobs watch: every event once, whatever the network does, and an exit code that tells how the job ended."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time

import pytest

from imts_cli.commands.exits import insistent
from tests.cli.conftest import Imts, Start, environment
from tests.cli.relay import Relay
from tests.cli.stand_in import Platform


def until(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def watched_by(platform: Platform, job_id: str) -> bool:
    return any(path == f"/api/jobs/{job_id}/events" for _, path, _ in platform.requests)


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("stopped", 5), ("paused", 5)])
def test_the_exit_code_tells_how_it_ended(imts: Imts, platform: Platform, state: str, code: int) -> None:
    job = platform.add_job()["id"]
    error = {"code": "bad_data", "message": "Row 3 is odd.", "hint": "Mend it."} if state == "failed" else None
    platform.move(job, state, error=error)
    ran = imts("jobs", "watch", job)
    assert ran.code == code
    assert state in ran.out.splitlines()[-1]
    if error:
        assert "Error (bad_data): Row 3 is odd.\n  hint: Mend it.\n" in ran.out
    assert imts("jobs", "wait", job).code == code


def test_a_pause_that_is_over_is_not_the_end(start: Start, platform: Platform) -> None:
    job = platform.add_job()["id"]
    platform.move(job, "paused")
    platform.move(job, "running")
    platform.move(job, "paused")
    out, _ = start("jobs", "watch", job, "--json").communicate(timeout=20)
    states = [json.loads(line)["data"]["state"] for line in out.splitlines()]
    assert states == ["queued", "paused", "running", "paused"]
    platform.move(job, "running")
    process = start("jobs", "watch", job, "--json")
    until(lambda: watched_by(platform, job))
    platform.move(job, "succeeded")
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [json.loads(line)["data"]["state"] for line in out.splitlines()] == [*states, "running", "succeeded"]


def test_submit_and_watch(start: Start, platform: Platform) -> None:
    process = start("jobs", "submit", "analysis", "dataset=faq", "--watch", "--json")
    until(lambda: platform.jobs and watched_by(platform, next(iter(platform.jobs))))
    (job,) = platform.jobs
    platform.move(job, "failed")
    out, _ = process.communicate(timeout=20)
    first, *events = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 1
    assert first["id"] == job
    assert [event["seq"] for event in events] == [1, 2]


def test_nothing_is_doubled_or_lost_when_the_network_goes(start: Start, platform: Platform, relay: Relay) -> None:
    job = platform.add_job()["id"]
    process = start("jobs", "watch", job, "--json", url=relay.url)
    until(lambda: watched_by(platform, job))
    for step in range(5):
        platform.event(job, "metric", {"step": step})
        time.sleep(0.03)
    relay.down()
    for step in range(5, 10):
        platform.event(job, "metric", {"step": step})
    time.sleep(0.7)
    relay.cut_after = 700
    relay.up()
    time.sleep(1)
    platform.move(job, "succeeded")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert [json.loads(line)["seq"] for line in out.splitlines()] == list(range(1, 13))
    assert "Reattaching" in err


def test_log_lines_are_shown_whole_and_once(start: Start, platform: Platform, relay: Relay) -> None:
    job = platform.add_job()["id"]
    relay.cut_after = 3_000
    process = start("jobs", "watch", job, url=relay.url)
    until(lambda: watched_by(platform, job))
    for number in range(0, 60, 3):
        platform.log(job, *(f"line {number + i} of the log [bold]" for i in range(3)))
        time.sleep(0.01)
    platform.event(job, "progress", {"percent": 100, "step": 3, "totalSteps": 3})
    platform.move(job, "succeeded")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert re.findall(r"line (\d+) of the log \[bold\]", out) == [str(number) for number in range(60)]
    assert "100% 3/3" in out


def test_ctrl_c_detaches_and_says_how_to_come_back(start: Start, platform: Platform) -> None:
    job = platform.add_job()["id"]
    for arguments in (("watch", job), ("watch", job, "--json"), ("logs", "-f", job)):
        platform.requests.clear()
        process = start("jobs", *arguments)
        until(lambda: any("event-stream" in headers["accept"] for _, _, headers in platform.requests))
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert f"Come back with: imts jobs {arguments[0]}" in err
        assert "Traceback" not in err + out
    assert platform.jobs[job]["state"] == "queued"


def test_ctrl_c_comes_again_where_it_was_swallowed() -> None:
    as_started = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), insistent():
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            time.sleep(10)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, as_started)


def test_on_a_terminal_a_bar_is_drawn(platform: Platform, start: Start, served: object) -> None:
    job = platform.add_job()["id"]
    ours, theirs = pty.openpty()
    try:
        environ = environment(served.url) | {"TERM": "xterm"}  # type: ignore[attr-defined]
        process = start("jobs", "watch", job, stdout=theirs, stderr=subprocess.PIPE, env=environ)
        os.close(theirs)

        def work() -> None:
            until(lambda: watched_by(platform, job))
            platform.move(job, "running")
            platform.event(job, "progress", {"percent": 42, "step": 21, "totalSteps": 50, "etaSeconds": 90})
            platform.event(job, "metric", {"step": 21, "loss": 0.25})
            platform.log(job, "a line above the bar")
            time.sleep(0.6)
            platform.move(job, "succeeded")

        worker = threading.Thread(target=work)
        worker.start()
        seen = b""
        while select.select([ours], [], [], 20)[0]:
            try:
                seen += os.read(ours, 65_536)
            except OSError:
                break
        worker.join()
        assert process.wait(20) == 0
    finally:
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "42% 21/50 1 min left" in text
    assert "loss 0.25" in text
    assert "a line above the bar" in text
    assert f"Job {job} succeeded." in text
