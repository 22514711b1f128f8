"""Brings a plan up, keeps it up, and takes it down in order.

    starting -> ready -> stopping -> stopped
             -> failed

One thread does everything, in short turns: a signal wakes it at once through a pipe.
"""

import contextlib
import os
import secrets
import select
import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType

from imts_cli.local import LocalError, postgres, processes, running, state, valkey
from imts_cli.local.home import Home
from imts_cli.local.ports import check_free
from imts_cli.local.running import Running, end_all, spawn
from imts_cli.local.services import Plan, Service, Step

START_SECONDS = 90.0
DEATHS_BEFORE_READY = 4
STEADY_TURN = 0.5
STARTING_TURN = 0.05


class AskedToStop(Exception):
    """A signal came while the platform was starting."""


class Supervisor:
    def __init__(self, home: Home, plan: Plan, say: Callable[[str], None]) -> None:
        self._home = home
        self._plan = plan
        self._say = say
        self._run = secrets.token_hex(8)
        self._me = processes.record(os.getpid())
        self._environment = {**plan.environment, processes.RUN_VARIABLE: self._run}
        self._running: list[Running] = []
        self._stop_signals = 0
        self._written: state.State | None = None
        self._wake_read, self._wake_write = os.pipe()

    def run(self, when_ready: Callable[[], None]) -> None:
        """Returns when told to stop and all is down; raises LocalError when it cannot come up, and all is down too.

        The caller holds the home's lock.
        """
        self._end_leftovers()
        self._listen_to_signals()
        failure: str | None = None
        try:
            self._come_up()
            self._write("ready")
            when_ready()
            while not self._stop_signals:
                self._turn(STEADY_TURN)
                self._write("ready")
        except AskedToStop:
            pass
        except LocalError as error:
            failure = str(error)
            raise
        finally:
            self._come_down()
            self._write("failed" if failure else "stopped", failure)

    def _end_leftovers(self) -> None:
        """A supervisor that was killed takes its children along, but only soon; and the kernel is not asked
        everywhere. Two Postgres servers on one folder must never be."""
        before = state.read(self._home)
        if before is not None:
            end_all(before.leftovers())

    def _listen_to_signals(self) -> None:
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_stop_signal)

    def _on_stop_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_signals += 1

    def _come_up(self) -> None:
        for service in self._plan.all:
            check_free(service.name, service.port)
        self._write("starting")
        names = {service.name for service in self._plan.servers}
        if "valkey" in names:
            valkey.prepare(self._home, self._port("valkey"))
        self._start(service for service in self._plan.servers if service.name != "postgres")
        self._start(service for service in self._plan.services if not service.needs_schema)
        if "postgres" in names:
            self._say("Starting Postgres.")
            postgres.prepare(self._home)
            self._start(service for service in self._plan.servers if service.name == "postgres")
        for name, trouble in self._plan.outside:
            if said := trouble():
                raise LocalError(f"{name} cannot be used: {said}.")
        until = time.monotonic() + START_SECONDS
        self._wait_ready({service.name for service in self._plan.servers}, until)
        for step in self._plan.steps:
            self._do(step, until)
        self._say("Starting the services.")
        self._start(service for service in self._plan.services if service.needs_schema)
        self._wait_ready({service.name for service in self._plan.all}, until)

    def _port(self, name: str) -> int:
        return next(service.port for service in self._plan.servers if service.name == name)

    def _start(self, services: Iterable[Service]) -> None:
        for service in services:
            one = Running(service, self._home, self._environment)
            one.start()
            self._running.append(one)
        self._write("starting")

    def _wait_ready(self, names: set[str], until: float) -> None:
        while waiting := [one for one in self._running if one.service.name in names and not one.ready]:
            self._turn(STARTING_TURN)
            self._write("starting")
            self._raise_if_stopped()
            for one in waiting:
                if not one.was_ready and one.restarts >= 1 and one.service.name == "valkey":
                    self._mend_valkey(one)
                if not one.was_ready and one.restarts >= DEATHS_BEFORE_READY:
                    raise LocalError(self._why_not(one, "does not start"))
            if time.monotonic() > until:
                raise LocalError(self._why_not(waiting[0], "is not ready in time"))

    def _mend_valkey(self, one: Running) -> None:
        if one.state == "restarting" and one.restarts == 1 and valkey.damaged(one.log_tail()):
            aside = valkey.forget(self._home)
            one.restarts += 1
            self._say(f"Valkey could not read its file; it lies in {aside} now. No job is lost by that.")

    def _why_not(self, one: Running, what: str) -> str:
        words = one.last_words()
        log = self._home.log(one.service.name)
        if "No space left on device" in words:
            return f"The disk that holds {self._home.root} is full: make room and run this again."
        return f"{one.service.name} {what}: {words} (the whole log: {log})"

    def _do(self, step: Step, until: float) -> None:
        log = self._home.log(step.name)
        log.unlink(missing_ok=True)
        process = spawn(step.command, log, self._environment)
        try:
            while process.poll() is None:
                self._turn(STARTING_TURN)
                self._raise_if_stopped()
                if time.monotonic() > until:
                    raise LocalError(f"{step.name} is not done in time (its log: {log})")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            words = running.last_words(log)
            if "Traceback" in running.tail(log):
                words = f"{step.name} failed: {words} (the whole log: {log})"
            raise LocalError(words)

    def _raise_if_stopped(self) -> None:
        if self._stop_signals:
            raise AskedToStop

    def _turn(self, seconds: float) -> None:
        readable, _, _ = select.select([self._wake_read], [], [], seconds)
        if readable:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        for one in self._running:
            one.look()

    def _come_down(self) -> None:
        """Orders in turn; a second signal from an impatient user cuts every wait short."""
        self._write("stopping")
        asked = self._stop_signals
        for order in sorted({one.service.stop_order for one in self._running}):
            group = [one for one in self._running if one.service.stop_order == order]
            for one in group:
                one.ask_to_stop()
            began = time.monotonic()
            for one in group:
                patience = one.service.stop_seconds if self._stop_signals == asked else 1.0
                one.wait_stopped(began + patience)
            self._write("stopping")
        processes.end(processes.of_run(self._run))
        self._running = []

    def _write(self, name: str, error: str | None = None) -> None:
        """Only what changed; a full disk must not end a platform that runs."""
        services = [
            state.ServiceState(
                name=one.service.name,
                state=one.state,
                pid=one.record.pid if one.record else None,
                started=one.record.started if one.record else "",
                port=one.service.port,
                restarts=one.restarts,
                url=one.service.url,
            )
            for one in self._running
        ]
        now = state.State(self._run, self._me.pid, self._me.started, name, self._plan.url, error, services)
        if now == self._written:
            return
        try:
            state.write(self._home, now)
        except OSError as failure:
            if name == "starting":
                raise LocalError(f"{self._home.state} cannot be written: {failure.strerror}.") from failure
            return
        self._written = now


def stop(home: Home, supervisor: processes.Record, within: float = 60) -> None:
    """From outside; a supervisor that does not react is killed, and the kernel ends its children."""
    if processes.end([supervisor], signal.SIGTERM, within):
        return
    processes.end([supervisor])
    before = state.read(home)
    if before is not None:
        end_all(before.leftovers())
