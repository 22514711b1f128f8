"""One engine that answers: how busy it is, and whether it rests after a failure."""

import random
import time
from collections.abc import Collection, Sequence

from yarl import URL

FIRST_REST = 0.5
LONGEST_REST = 15.0


class Target:
    """Kept as long as snapshots name the same engine process, and shared by all names that it answers for: its load
    is that of the process."""

    __slots__ = ("_addresses", "failures", "in_flight", "replica", "rests_until", "url")

    def __init__(self, url: str, replica: str) -> None:
        self.url = url.rstrip("/")
        self.replica = replica
        self.in_flight = 0
        self.failures = 0
        self.rests_until = 0.0
        self._addresses: dict[str, URL] = {}

    def address(self, path: str) -> URL:
        found = self._addresses.get(path)
        if found is None:
            found = self._addresses[path] = URL(self.url + path)
        return found

    def failed(self) -> None:
        """Rests twice as long with each failure in a row. Failures of requests that were under way together count as
        one: they tell of one event."""
        now = time.monotonic()
        if now < self.rests_until:
            return
        self.rests_until = now + min(FIRST_REST * 2**self.failures, LONGEST_REST)
        self.failures = min(self.failures + 1, 10)

    def answered(self) -> None:
        self.failures = 0
        self.rests_until = 0.0


def choose(targets: Sequence[Target], but: Collection[Target] = ()) -> Target | None:
    """The less busy of two at random; one that rests only where no other is left, as that is better than none."""
    untried = [target for target in targets if target not in but] if but else targets
    if len(untried) > 1:
        now = time.monotonic()
        awake = [target for target in untried if target.rests_until <= now]
        if not awake:
            return min(untried, key=lambda target: target.rests_until)
        untried = awake
    if not untried:
        return None
    if len(untried) == 1:
        return untried[0]
    one, other = random.sample(untried, 2)
    return one if one.in_flight <= other.in_flight else other
