"""Numbered batches: each is sent until it is accepted, one at a time, and the last one carries the outcome."""

from time import monotonic
from typing import Literal

from loguru import logger

from imts_shared.contracts.internal import Outcome
from imts_shared.worker.fence import Fence
from imts_shared.worker.outbox import Outbox
from imts_shared.worker.wire import Away, Silent, Wire

COALESCE_SECONDS = 0.06
LONGEST_TIMEOUT = 5.0
LONGEST_PAUSE = 1.0

Order = Literal["continue", "stop", "pause"]


class Abandoned(Exception):
    """The worker goes away before the control plane could be told."""


class Reporter:
    """One attempt's reports. Not shared between threads.

    A batch is encoded once and never changed afterwards: when its answer was lost it may have been applied, and the
    repetition under the same number must say the same.
    """

    def __init__(self, wire: Wire, attempt: int, outbox: Outbox, fence: Fence, beat_seconds: float) -> None:
        self._wire = wire
        self._attempt = attempt
        self._outbox = outbox
        self._fence = fence
        self._beat_seconds = beat_seconds
        self._number = 0
        self._batch: bytes | None = None
        self._outbox_was_last = False
        self._sent_at = monotonic()
        self._pause = 0.0
        self.give_up_at: float | None = None

    def wait(self) -> None:
        """Until there is something new (and what comes with it), a beat is due, or a retry is."""
        if self._pause > 0:
            self._outbox.wait_for_wake(self._pause)
            return
        due = self._sent_at + self._beat_seconds - monotonic()
        if due > 0 and self._outbox.wait(due):
            self._outbox.wait_for_wake(COALESCE_SECONDS)

    def send(self) -> Order | None:
        """Sends the batch that waits, a new one or a bare beat. None: not heard, try again. Raises Over, Unfit."""
        if self._batch is None:
            self._batch = self._next_batch(None)
        return self._deliver(self._batch or b'{"attempt":%d}' % self._attempt)

    def finish(self, outcome: Outcome) -> None:
        """Sends all that is left and the outcome; raises Over, Unfit or Abandoned."""
        said = False
        while self._batch is not None or not said:
            if self._batch is None:
                self._batch = self._next_batch(outcome)
                said = self._outbox_was_last
            if self._deliver(self._batch or b"") is None:
                self._wait_before_retry()

    def replace(self, outcome: Outcome) -> None:
        """Ends the attempt with nothing but this outcome, in place of a batch that is not taken."""
        if self._batch is None:
            self._number += 1
        self._batch = self._encode([], [], outcome)
        while self._deliver(self._batch) is None:
            self._wait_before_retry()

    def _wait_before_retry(self) -> None:
        self._outbox.wait_for_wake(self._pause)
        if self.give_up_at is not None and monotonic() > self.give_up_at:
            raise Abandoned

    def _next_batch(self, outcome: Outcome | None) -> bytes | None:
        events, lines = self._outbox.take()
        self._outbox_was_last = self._outbox.empty()
        last = outcome if self._outbox_was_last else None
        if not events and not lines and last is None:
            return None
        self._number += 1
        return self._encode(events, lines, last)

    def _encode(self, events: list[bytes], lines: list[bytes], outcome: Outcome | None) -> bytes:
        ending = b""
        if outcome is not None:
            ending = b',"outcome":' + outcome.model_dump_json(by_alias=True, exclude_none=True).encode()
        return b'{"attempt":%d,"batch":%d,"events":[%s],"logs":[%s]%s}' % (
            self._attempt,
            self._number,
            b",".join(events),
            b",".join(lines),
            ending,
        )

    def _deliver(self, body: bytes) -> Order | None:
        self._sent_at = sent_at = monotonic()
        lease = self._fence.lease_seconds
        try:
            answer = self._wire.report(body, min(LONGEST_TIMEOUT, lease / 4))
        except Away as error:
            self._fence.away(sent_at)
            self._not_heard(error, lease)
            return None
        except Silent as error:
            self._not_heard(error, lease)
            return None
        self._fence.accepted(sent_at, answer.lease_seconds)
        self._batch = None
        self._pause = 0.0
        return answer.order

    def _not_heard(self, error: Exception, lease: float) -> None:
        if self._pause == 0.0:
            logger.bind(why=str(error)).warning("report not heard")
        self._pause = min(max(self._pause * 2, lease / 200), LONGEST_PAUSE, lease / 40)
