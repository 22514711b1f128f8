"""One service under the supervisor: started, probed, started again when it dies, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from imts_cli.local import child
from imts_cli.local.home import Home
from imts_cli.local.processes import Record, end, record
from imts_cli.local.services import Service

FIRST_WAIT = 0.2
LONGEST_WAIT = 10.0
SETTLED_AFTER = 30.0
STARTING_PROBE = 0.1
READY_PROBE = 5.0
"""How often one that is ready is asked; a death is noticed at once."""
LOG_BYTES = 10 * 2**20


def spawn(
    command: tuple[str, ...], log: Path, environment: Mapping[str, str], service: Service | None = None
) -> "subprocess.Popen[bytes]":
    """Always called from the main thread: the kernel counts the death of the thread that forked as the parent's."""
    death_signal = service.death_signal if service else signal.SIGKILL
    launcher = [sys.executable, "-I", "-S", child.__file__, "--parent", str(os.getpid())]
    launcher += ["--death-signal", str(int(death_signal))]
    if service and service.unprivileged:
        launcher += ["--unprivileged", "--owns", str(service.owns)]
    pipes: tuple[int, ...] = ()
    if sys.platform != "linux":
        watched, _held_while_we_live = os.pipe()
        pipes = (watched,)
        launcher += ["--guard-pipe", str(watched)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*launcher, "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            pass_fds=pipes,
            process_group=0,
        )
    for pipe in pipes:
        os.close(pipe)
    return process


class Running:
    def __init__(self, service: Service, home: Home, environment: Mapping[str, str]) -> None:
        self.service = service
        self.restarts = 0
        self.ready = False
        self.was_ready = False
        self.record: Record | None = None
        self._log = home.log(service.name)
        self._environment = {**environment, **service.environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._retry_at = 0.0
        self._probe_at = 0.0
        self._wait = FIRST_WAIT

    @property
    def state(self) -> str:
        if self._process is None:
            return "restarting" if self.restarts else "stopped"
        return "ready" if self.ready else "unready" if self.was_ready else "starting"

    def start(self) -> None:
        self._rotate()
        self._process = spawn(self.service.command, self._log, self._environment, self.service)
        self.record = record(self._process.pid)
        self._started = time.monotonic()
        self._probe_at = 0.0

    def look(self) -> None:
        """Notices a death, starts again when the wait is over, and asks whether the service answers."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._retry_at:
                self.start()
            return
        if self._process.poll() is not None:
            self._kill_group()
            if now - self._started > SETTLED_AFTER:
                self._wait = FIRST_WAIT
            self._process, self.record, self.ready = None, None, False
            self.restarts += 1
            self._retry_at = now + self._wait
            self._wait = min(self._wait * 2, LONGEST_WAIT)
            return
        if now >= self._probe_at:
            self.ready = self.service.answers()
            self.was_ready = self.was_ready or self.ready
            self._probe_at = time.monotonic() + (READY_PROBE if self.ready else STARTING_PROBE)
            if self.ready:
                self._rotate()

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.service.stop_signal)
            self._process.send_signal(signal.SIGCONT)

    def wait_stopped(self, until: float) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._force()
        self._kill_group()
        self._process, self.record, self.ready = None, None, False

    def _force(self) -> None:
        if self._process is None:
            return
        if self.service.death_signal is not signal.SIGKILL:
            self._process.send_signal(self.service.death_signal)
            try:
                self._process.wait(6)
                return
            except subprocess.TimeoutExpired:
                pass
        self._process.kill()
        self._process.wait(5)

    def _kill_group(self) -> None:
        """What a dead service left in its own group; its pid stays taken as the group's id as long as any is left."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return

    def _rotate(self) -> None:
        """Copies and empties, because the service keeps the file open; it appends, so it goes on at the new end."""
        try:
            if self._log.stat().st_size < LOG_BYTES:
                return
        except FileNotFoundError:
            return
        with self._log.open("r+b") as current, self._log.with_suffix(".log.1").open("wb") as older:
            while part := current.read(2**20):
                older.write(part)
            current.truncate(0)

    def last_words(self) -> str:
        return last_words(self._log)

    def log_tail(self) -> str:
        return tail(self._log)


def tail(log: Path, size: int = 16_384) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def last_words(log: Path) -> str:
    lines = [line.strip() for line in tail(log).splitlines() if line.strip()]
    grave = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "No space left"))]
    return (grave or lines or ["it said nothing"])[-1]


def end_all(records: list[Record]) -> None:
    """Leftovers of an earlier run: politely first, because Postgres then leaves nothing to recover."""
    if records and not end(records, signal.SIGTERM, within=3):
        end(records, signal.SIGKILL)
