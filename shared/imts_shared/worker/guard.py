"""The guard: a small process between a worker and an engine, the engine's parent and the only one who signals it.

It is never frozen itself, so it hears the end of the worker while the engine stands still, and as the parent it can
signal the engine's group without ever meeting somebody else's: the number stays taken until the guard lets it go.
"""

import os
import resource
import select
import signal
from contextlib import suppress
from enum import Enum
from time import monotonic
from typing import NoReturn


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


class Guard:
    """Prevents a second runner when the worker stands still (stopped, starved): an engine whose guard hears nothing
    for half a lease is frozen until the worker has heard that the lease still holds. Prevents orphans when the
    worker dies: the pipe ends, and the engine's whole group with it.
    """

    def __init__(self, engine: int, commands: int, child_ends: int, pulse_seconds: float) -> None:
        self._engine = engine
        self._commands = commands
        self._child_ends = child_ends
        self._pulse_seconds = pulse_seconds
        self._heard = monotonic()
        self._frozen = False

    def watch(self) -> NoReturn:
        """Until the engine has ended; then ends in the same way, whatever the engine left running being ended too."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        while not self._ended():
            left = self._heard + self._pulse_seconds - monotonic()
            ready, _, _ = select.select(
                [self._commands, self._child_ends], [], [], None if self._frozen else max(0.0, left)
            )
            if self._child_ends in ready:
                with suppress(BlockingIOError):
                    os.read(self._child_ends, 256)
            if self._commands in ready:
                said = os.read(self._commands, 256)
                if not said:
                    self._signal(signal.SIGKILL)
                    os.waitid(os.P_PID, self._engine, os.WEXITED | os.WNOWAIT)
                self._obey(said)
            elif not self._frozen and monotonic() - self._heard >= self._pulse_seconds:
                self._freeze()
        self._signal(signal.SIGKILL)
        _, status = os.waitpid(self._engine, 0)
        _end_like(os.waitstatus_to_exitcode(status))

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
