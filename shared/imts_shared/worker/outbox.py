"""What an attempt has to say and has not said yet: encoded events and log lines, bounded, in order."""

import threading
from collections import deque

from imts_shared.worker.lines import line

MOST_EVENTS = 500
MOST_LINES = 1_000
MOST_BATCH_BYTES = 2 * 2**20
MOST_KEPT_LINE_BYTES = 16 * 2**20


class Outbox:
    """Filled by the thread that tends the child, emptied by the thread that reports.

    While the control plane is away the oldest lines go first, and one line says how many went; events (metrics,
    checkpoints, artifacts) are all kept.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: deque[bytes] = deque()
        self._lines: deque[bytes] = deque()
        self._line_bytes = 0
        self._dropped = 0
        self._woken = False

    def add_event(self, event: bytes) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def add_lines(self, lines: list[bytes]) -> None:
        with self._changed:
            for one in lines:
                self._lines.append(one)
                self._line_bytes += len(one)
            while self._line_bytes > MOST_KEPT_LINE_BYTES:
                self._line_bytes -= len(self._lines.popleft())
                self._dropped += 1
            self._changed.notify_all()

    def wake(self) -> None:
        """Ends one wait early: the child is gone, or the worker shuts down."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Waits until there is something to say (True), somebody wakes it, or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._events or self._lines, seconds)
            if self._woken:
                self._woken = False
                return False
            return bool(self._events or self._lines)

    def wait_for_wake(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._woken, seconds)
            self._woken = False

    def take(self) -> tuple[list[bytes], list[bytes]]:
        """At most one batch's worth of events and lines."""
        events: list[bytes] = []
        lines: list[bytes] = []
        size = 0
        with self._changed:
            if self._dropped:
                words = f"... {self._dropped} log lines were dropped while the control plane did not answer ..."
                lines.append(line("log", words))
                self._dropped = 0
            while self._events and len(events) < MOST_EVENTS and size < MOST_BATCH_BYTES:
                events.append(self._events.popleft())
                size += len(events[-1])
            while self._lines and len(lines) < MOST_LINES and size < MOST_BATCH_BYTES:
                lines.append(self._lines.popleft())
                self._line_bytes -= len(lines[-1])
                size += len(lines[-1])
        return events, lines

    def empty(self) -> bool:
        with self._changed:
            return not (self._events or self._lines or self._dropped)
