"""A real inference worker, started as the supervisor starts it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.inference.plane import SERVICE_KEY, Plane

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(true: Callable[[], Any], seconds: float, what: Callable[[], Any] = str) -> Any:
    ended = time.monotonic() + seconds
    while time.monotonic() < ended:
        found = true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what()}")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def below(pid: int) -> list[int]:
    """All descendants."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in tasks.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [one for child in children for one in (child, *below(child))]
    return found


class Worker:
    def __init__(self, plane: Plane, home: Path, **more: str) -> None:
        self.plane = plane
        self.home = home
        self.port = free_port()
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / f"worker-{self.port}.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("IMTS_")}
        self.environment = {
            **inherited,
            "IMTS_HOME": str(home),
            "IMTS_REDIS_URL": "redis://127.0.0.1:1/0",
            "IMTS_STORAGE_URL": f"file://{home}/storage",
            "IMTS_SERVICE_KEY": SERVICE_KEY,
            "IMTS_CONTROL_PLANE_URL": plane.url,
            "IMTS_TRAINING_URL": "http://127.0.0.1:1",
            "IMTS_INFERENCE_WORKER_PORT": str(self.port),
            **more,
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "inference_service", "worker"],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.url = f"http://127.0.0.1:{self.port}"
        until(self.answers, 30, self.log.read_text)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def check(self, engine: str, arguments: dict[str, Any], key: str = SERVICE_KEY) -> httpx.Response:
        return httpx.post(
            f"{self.url}/check",
            json={"engine": engine, "engineArgs": arguments},
            headers={"Authorization": f"Bearer {key}"},
            timeout=10,
        )

    def state(self, name: str, wanted: str, seconds: float, revision: int = 1, number: int = 0) -> dict[str, Any]:
        """The replica's report once it is in the wanted state."""

        def found() -> dict[str, Any] | None:
            one = self.plane.replica(name, revision, number)
            assert one is None or one["state"] != "failed" or wanted == "failed", one
            return one if one is not None and one["state"] == wanted else None

        told: dict[str, Any] = until(found, seconds, lambda: f"{self.plane.replicas}\n{self.log.read_text()[-3000:]}")
        return told

    def gone(self, name: str, seconds: float, revision: int = 1, number: int = 0) -> None:
        until(lambda: self.plane.replica(name, revision, number) is None, seconds, lambda: self.plane.replicas)

    def processes(self) -> list[int]:
        """Guards and engines, as long as the worker lives."""
        return below(self.process.pid)

    def end(self) -> None:
        left = self.processes()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        until(lambda: not any(alive(pid) for pid in left), 20, lambda: left)
