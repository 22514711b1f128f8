"""Redis forgets, dies and comes back; messages sent afterwards still arrive."""

import time

import pytest

from imts_shared.contracts.internal import RunMessage
from imts_shared.worker.doorbell import DoorbellAway, publish
from tests.shared.conftest import Valkey, WorkerProcess, free_port
from tests.shared.fake_control_plane import FakeJob

MESSAGE = RunMessage(job_id="job", attempt=1, token="token")


def echo(worker: WorkerProcess) -> str:
    return str(worker.run(FakeJob({"do": "echo"}), 15)["status"])


def test_a_wiped_redis_still_rings(worker: WorkerProcess) -> None:
    assert echo(worker) == "succeeded"
    worker.valkey.command("FLUSHALL")
    assert echo(worker) == "succeeded"


def test_a_redis_killed_and_started_again_rings(worker: WorkerProcess) -> None:
    worker.valkey.kill()
    time.sleep(1)
    worker.valkey.start()
    started = time.monotonic()
    assert echo(worker) == "succeeded"
    assert time.monotonic() - started < 5


def test_a_worker_without_redis_is_not_ready(worker: WorkerProcess) -> None:
    worker.valkey.kill()
    try:
        ended = time.monotonic() + 5
        while worker.ready() and time.monotonic() < ended:
            time.sleep(0.05)
        assert not worker.ready()
    finally:
        worker.valkey.start()
    assert echo(worker) == "succeeded"


def test_a_running_job_does_not_notice_redis(worker: WorkerProcess) -> None:
    job = FakeJob({"do": "talk", "steps": 100, "pause": 0.02})
    worker.send(job)
    time.sleep(0.5)
    worker.valkey.kill()
    time.sleep(0.5)
    worker.valkey.start()
    assert worker.outcome(job)["status"] == "succeeded"
    assert len(job.events("metric")) == 100


def test_an_absent_redis_is_named_quickly() -> None:
    started = time.monotonic()
    with pytest.raises(DoorbellAway):
        publish(f"redis://:secret@127.0.0.1:{free_port()}/0", "queue", MESSAGE)
    assert time.monotonic() - started < 1


def test_a_redis_that_hangs_is_named_within_seconds(valkey: Valkey) -> None:
    import signal

    publish(valkey.url, "nobody", MESSAGE)
    valkey.process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(DoorbellAway):
            publish(valkey.url, "nobody", MESSAGE)
        assert time.monotonic() - started < 4
    finally:
        valkey.process.send_signal(signal.SIGCONT)
    publish(valkey.url, "nobody", MESSAGE)
