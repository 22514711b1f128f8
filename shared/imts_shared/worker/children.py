"""The worker's side of a child process: its birth, its signals, its pipes, its end."""

import os
import selectors
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from time import monotonic

from loguru import logger

from imts_shared.contracts.internal import Outcome
from imts_shared.worker.fence import Fence
from imts_shared.worker.guard import Command
from imts_shared.worker.lines import LineSplitter
from imts_shared.worker.masking import Mask
from imts_shared.worker.outbox import Outbox
from imts_shared.worker.plan import ChildPlan, Pipe, enter_child

TICK_SECONDS = 0.25
TERM_SECONDS = 2.0
DRAIN_SECONDS = 1.0
PULSE_SHARE = 0.5

_spawning = get_context("forkserver")
_processes = threading.Lock()
"""Starting a process looks after all others, and two threads doing that read one exit status twice."""


def preload(modules: list[str]) -> None:
    """Says what the process that children are forked from imports, once, before the first child."""
    _spawning.set_forkserver_preload([*modules, "imts_shared.worker.preload"])


def warm_up() -> None:
    """Starts that process now and not with the first job."""
    from multiprocessing.forkserver import ensure_running

    ensure_running()


def await_warm() -> None:
    """Until that process has imported all that it should: it forks nothing before."""
    process = _spawning.Process(target=_nothing)
    with _processes:
        process.start()
    process.join()
    process.close()


def _nothing() -> None:
    return


def _write(pipe: Pipe, said: bytes) -> None:
    """Whoever does not read any more is about to end, or is ended when its time is up."""
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(pipe.fileno(), said)


class Child:
    """An attempt's processes. `_tend` runs in a thread of its own until nothing of them is left.

    The worker signals nobody: it tells the guard. All is told under one lock, so that a thaw never overtakes the
    kill or the freeze that came before it.
    """

    def __init__(self, plan: ChildPlan, outbox: Outbox, fence: Fence, mask: Mask) -> None:
        self._outbox = outbox
        self._mask = mask
        self._fence = fence
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._frozen = False
        self._killed = False
        self._term_at: float | None = None
        self._kill_at: float | None = None
        self._last_pulse = 0.0
        self._engine: int | None = None
        self.outcome: Outcome | None = None
        self.exit_code: int | None = None
        commands, self._commands = _spawning.Pipe(duplex=False)
        orders, self._orders = _spawning.Pipe(duplex=False)
        self._reports, reports = _spawning.Pipe(duplex=False)
        self._out, out = _spawning.Pipe(duplex=False)
        self._err, err = _spawning.Pipe(duplex=False)
        theirs = (commands, orders, reports, out, err)
        self._process = _spawning.Process(target=enter_child, args=(plan, *theirs), daemon=False)
        try:
            with _processes:
                self._process.start()
        finally:
            for pipe in theirs:
                pipe.close()
        for pipe in (self._commands, self._orders):
            os.set_blocking(pipe.fileno(), False)
        self._thread = threading.Thread(target=self._tend, name=f"tend-{self._process.pid}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    @property
    def killed(self) -> bool:
        """Whether it was we who signalled it to end."""
        return self._killed or self._kill_at is not None

    def join(self) -> None:
        self._thread.join()

    def tell(self, order: str, grace_seconds: float) -> None:
        """Orders it to stop or pause; whoever has not ended after the grace gets SIGTERM, then SIGKILL."""
        with self._lock:
            term_at = monotonic() + grace_seconds
            self._term_at = term_at if self._term_at is None else min(self._term_at, term_at)
            if not self.ended:
                _write(self._orders, b"P" if order == "pause" else b"S")

    def kill(self) -> None:
        with self._lock:
            if not self.ended:
                self._kill()

    def thaw(self) -> None:
        """After an accepted report. The guard may also have frozen the engine by itself, which is not seen here."""
        with self._lock:
            if not self.ended and not self._killed and self._fence.holds():
                if self._frozen:
                    logger.bind(engine=self._engine).warning("attempt thawed")
                self._frozen = False
                self._last_pulse = monotonic()
                self._command(Command.thaw)

    def _command(self, command: Command) -> None:
        _write(self._commands, command.value)

    def _kill(self) -> None:
        self._killed = True
        self._kill_at = monotonic()
        self._command(Command.kill)

    def _tick(self) -> None:
        with self._lock:
            now = monotonic()
            if self._term_at is not None and now >= self._term_at and self._kill_at is None:
                self._kill_at = now + TERM_SECONDS
                self._command(Command.terminate)
            if self._kill_at is not None and now >= self._kill_at and not self._killed:
                self._kill()
            if self._killed and now >= (self._kill_at or now) + TERM_SECONDS:
                self._process.kill()  # a guard that stands still itself; the engine dies with it
            if self._frozen:
                return
            if not self._fence.holds():
                self._frozen = True
                logger.bind(engine=self._engine).warning("attempt frozen")
                self._command(Command.freeze)
            elif now - self._last_pulse >= min(1.0, self._fence.lease_seconds / 10):
                self._last_pulse = now
                self._command(Command.pulse)

    def _tend(self) -> None:
        pipes: dict[int, Callable[[], bool]] = {
            self._reports.fileno(): self._read_frame,
            self._out.fileno(): self._printed(self._out, LineSplitter("stdout")),
            self._err.fileno(): self._printed(self._err, LineSplitter("stderr")),
        }
        sentinel = self._process.sentinel
        tick = min(TICK_SECONDS, self._fence.lease_seconds / 40)
        give_up_at: float | None = None
        with selectors.DefaultSelector() as selector:
            for number in (*pipes, sentinel):
                selector.register(number, selectors.EVENT_READ)
            while pipes or give_up_at is None:
                if give_up_at is not None and monotonic() > give_up_at:
                    break
                for key, _ in selector.select(tick):
                    number = key.fd
                    if number == sentinel:
                        selector.unregister(sentinel)
                        self._bury()
                        give_up_at = monotonic() + DRAIN_SECONDS
                    elif not pipes[number]():
                        selector.unregister(number)
                        del pipes[number]
                if give_up_at is None:
                    self._tick()
        with self._lock:
            self._ended.set()
            for pipe in (self._commands, self._orders, self._reports, self._out, self._err):
                pipe.close()
        self._outbox.wake()

    def _bury(self) -> None:
        """Takes the exit status. A guard that was killed leaves the engine's group to us; a guard whose end was not
        seen, because the forkserver died, ends the engine itself.
        """
        self._command(Command.kill)
        with _processes:
            self._process.join(5)
            self.exit_code = self._process.exitcode
        if self._engine is not None and self.exit_code is not None and self.exit_code < 0:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._engine, signal.SIGKILL)

    def _read_frame(self) -> bool:
        try:
            frame = self._reports.recv_bytes()
        except (EOFError, OSError):
            return False
        kind, content = frame[:1], frame[1:]
        if kind == b"E":
            self._outbox.add_event(self._mask(content))
        elif kind == b"L":
            self._outbox.add_lines([self._mask(content)])
        elif kind == b"B":
            self._engine = int(content)
        else:
            self.outcome = Outcome.model_validate_json(self._mask(content))
        return True

    def _printed(self, pipe: Pipe, splitter: LineSplitter) -> Callable[[], bool]:
        def read() -> bool:
            data = os.read(pipe.fileno(), 65_536)
            lines = splitter.feed(data) if data else splitter.finish()
            if lines:
                self._outbox.add_lines([self._mask(one) for one in lines])
            return bool(data)

        return read
