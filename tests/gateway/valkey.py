"""A real Valkey for the tests: as fleeting as Redis may be."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from imts_cli.local.valkey import answers, binary
from tests.conftest import free_port

PASSWORD = "secret"


class Valkey:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", ""]
        self._process = subprocess.Popen(
            [binary(), *options, "--dir", str(self._folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        ends = time.monotonic() + 20
        while not answers(self._port, PASSWORD):
            assert time.monotonic() < ends, "valkey does not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """With all that it knew."""
        self.resume()
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        with self.client() as client:
            client.flushall()

    @contextlib.contextmanager
    def client(self) -> Iterator["redis.Redis"]:
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            yield client

    def counter(self, key: str) -> dict[str, str]:
        with self.client() as client:
            return client.hgetall(f"imts:quota:{key}")


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[Valkey]:
    server = Valkey(folder)
    try:
        yield server
    finally:
        server.stop()
