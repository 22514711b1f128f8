"""How long an attempt may go on without hearing from the control plane."""

import threading
from time import monotonic

MARGIN = 0.25
AWAY_SHARE = 0.15


class Fence:
    """A worker's own view of its lease, by its own monotonic clock.

    The control plane counts the lease from when it took a request, which is later than when the request was sent;
    so the view from here always ends first. Silence prolongs nothing: on the other side of a broken network the
    attempt may be given to another worker the moment the lease is over. A control plane that refuses the
    connection, or says that it cannot answer, cannot take another worker's claim in that moment either: as long as
    it goes on refusing, the attempt goes on, but only an attempt that held its lease when the refusals began.
    """

    def __init__(self, lease_seconds: float, sent_at: float) -> None:
        self._lock = threading.Lock()
        self._lease = lease_seconds
        self._until = sent_at + lease_seconds
        self._away_until = sent_at

    def accepted(self, sent_at: float, lease_seconds: float) -> None:
        with self._lock:
            self._lease = lease_seconds
            self._until = max(self._until, sent_at + lease_seconds)
            self._away_until = sent_at

    def away(self, sent_at: float) -> None:
        with self._lock:
            if self._holds(sent_at):
                self._away_until = sent_at + AWAY_SHARE * self._lease

    def holds(self) -> bool:
        """False from a quarter of a lease before its end: a child must stand still before the end, not after."""
        with self._lock:
            return self._holds(monotonic())

    def _holds(self, now: float) -> bool:
        return now < self._until - MARGIN * self._lease or now < self._away_until

    @property
    def lease_seconds(self) -> float:
        with self._lock:
            return self._lease
