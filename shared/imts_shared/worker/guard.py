"""The guard: a small process between a worker and an engine, the engine's parent and the only one who signals it.

A worker forks it and the engine from a process of its own (worker/child.py), or runs this file with the command of an
engine that is another program: `python -I guard.py TELL COMMAND...`. Commands come by the standard input then, and the
engine's pid is written into the descriptor TELL.

It is never frozen itself, so it hears the end of the worker while the engine stands still, and as the parent it can
signal the engine's group without ever meeting somebody else's: the number stays taken until the guard lets it go.
"""

import ctypes
import os
import resource
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from time import monotonic
from typing import NoReturn

LOOK_SECONDS = 2.0


class Command(bytes, Enum):
    """What the worker writes into the guard's pipe, a byte each."""

    pulse = b"."
    freeze = b"F"
    thaw = b"C"
    terminate = b"T"
    kill = b"K"


def own_session() -> None:
    """Apart from the worker's group, which a supervisor may kill as a whole: the guard outlives it by a moment.

    Also lets go of what would keep Python's forkserver alive: it must end with the worker, not with the last child.
    """
    from multiprocessing import forkserver

    os.setsid()
    alive = forkserver._forkserver._forkserver_alive_fd  # type: ignore[attr-defined]
    if alive is not None:
        os.close(alive)
        forkserver._forkserver._forkserver_alive_fd = None  # type: ignore[attr-defined]


def wake_on_child_end() -> int:
    """A descriptor that becomes readable when a child of this process ends. To be called before the fork."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


class Starved:
    """Threads of an engine that the system has forgotten. Linux was seen (6.18, two busy cores) to leave one that is
    ready to run without any time for minutes on end, until it is let go to another core."""

    def __init__(self, engine: int, proc: Path = Path("/proc")) -> None:
        self._engine = engine
        self._proc = proc
        self._ran: dict[Path, str] = {}

    def move(self) -> None:
        """Those that were ready at the last look already, and have had no time since then."""
        ready: dict[Path, str] = {}
        for thread in self._threads(str(self._engine)):
            with suppress(OSError, IndexError, ValueError):
                told = (thread / "stat").read_text().rpartition(")")[2].split()
                if told[0] != "R":
                    continue
                ready[thread] = " ".join(told[11:13])
                if self._ran.get(thread) == ready[thread]:
                    _move(int(thread.name), int(told[36]))
        self._ran = ready

    def _threads(self, process: str) -> Iterator[Path]:
        threads: list[Path] = []
        with suppress(OSError):
            threads += (self._proc / process / "task").iterdir()
        for thread in threads:
            yield thread
            with suppress(OSError):
                for child in (thread / "children").read_text().split():
                    yield from self._threads(child)


def _move(thread: int, core: int) -> None:
    """To another core, and then to where it might be before. One that might be on its core alone may be on any
    afterwards: it would be back at once where it has no time. (torch holds itself to each core for a moment while it is
    loaded, so an engine that starts meets the busy core of another.)"""
    might_be = os.sched_getaffinity(thread)
    may_be = might_be if might_be - {core} else might_be | os.sched_getaffinity(0)
    others = may_be - {core}
    if others:
        os.sched_setaffinity(thread, {min(others)})
        os.sched_setaffinity(thread, may_be)


class Guard:
    """Prevents a second runner when the worker stands still (stopped, starved): an engine whose guard hears nothing
    for half a lease is frozen until the worker has heard that the lease still holds. Prevents orphans when the
    worker dies: the pipe ends, and the engine's whole group with it.
    """

    def __init__(self, engine: int, commands: int, child_ends: int, pulse_seconds: float | None) -> None:
        """Without `pulse_seconds` the engine needs no pulse: it may go on while the worker stands still."""
        self._engine = engine
        self._commands = commands
        self._child_ends = child_ends
        self._pulse_seconds = pulse_seconds
        self._heard = monotonic()
        self._frozen = False
        self._starved = Starved(engine) if sys.platform == "linux" else None
        self._looked = monotonic()

    def watch(self) -> NoReturn:
        """Until the engine has ended; then ends in the same way, whatever the engine left running being ended too."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        while not self._ended():
            ready, _, _ = select.select([self._commands, self._child_ends], [], [], self._until_next())
            self._look()
            if self._child_ends in ready:
                with suppress(BlockingIOError):
                    os.read(self._child_ends, 256)
            if self._commands in ready:
                said = os.read(self._commands, 256)
                if not said:
                    self._signal(signal.SIGKILL)
                    os.waitid(os.P_PID, self._engine, os.WEXITED | os.WNOWAIT)
                self._obey(said)
            elif self._patience() == 0:
                self._freeze()
        self._signal(signal.SIGKILL)
        _, status = os.waitpid(self._engine, 0)
        _end_like(os.waitstatus_to_exitcode(status))

    def _until_next(self) -> float | None:
        patience = self._patience()
        if self._starved is None:
            return patience
        until_look = max(0.0, self._looked + LOOK_SECONDS - monotonic())
        return until_look if patience is None else min(patience, until_look)

    def _look(self) -> None:
        if self._starved is not None and monotonic() - self._looked >= LOOK_SECONDS:
            self._starved.move()
            self._looked = monotonic()

    def _patience(self) -> float | None:
        """Seconds until the engine must be frozen."""
        if self._frozen or self._pulse_seconds is None:
            return None
        return max(0.0, self._heard + self._pulse_seconds - monotonic())

    def _ended(self) -> bool:
        return os.waitid(os.P_PID, self._engine, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _obey(self, said: bytes) -> None:
        for number in said:
            match Command(bytes([number])):
                case Command.pulse:
                    self._heard = monotonic()
                case Command.freeze:
                    self._freeze()
                case Command.thaw:
                    self._heard = monotonic()
                    self._frozen = False
                    self._signal(signal.SIGCONT)
                case Command.terminate:
                    self._signal(signal.SIGTERM)
                case Command.kill:
                    self._signal(signal.SIGKILL)

    def _freeze(self) -> None:
        self._frozen = True
        self._signal(signal.SIGSTOP)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._engine, number)
        except ProcessLookupError:  # just forked: it leads no group yet
            with suppress(ProcessLookupError):
                os.kill(self._engine, number)


def _end_like(code: int) -> NoReturn:
    """The worker sees the guard's end; it shall see the engine's."""
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 1)


def run(tell: int, command: list[str]) -> NoReturn:
    os.setsid()
    child_ends = wake_on_child_end()
    guard = os.getpid()
    engine = os.fork()
    if engine == 0:
        os.close(tell)
        _become(command, guard)
    os.write(tell, f"{engine}\n".encode())
    os.close(tell)
    for ours in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), ours)
    Guard(engine, sys.stdin.fileno(), child_ends, None).watch()


def _become(command: list[str], guard: int) -> NoReturn:
    """Its own group, and an end with the guard should even that be killed."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
        os._exit(127)


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2:])
