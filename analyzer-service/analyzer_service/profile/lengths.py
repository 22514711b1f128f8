"""Distributions of lengths in bounded memory."""

from collections import Counter

EXACT_BELOW = 4_096
STEPS_PER_DOUBLING = 64


def _bucket(length: int) -> int:
    """Exact for short lengths; above, 64 steps a doubling: off by less than 1.6 %."""
    if length < EXACT_BELOW:
        return length
    shift = length.bit_length() - EXACT_BELOW.bit_length() + 6
    return length >> shift << shift if shift > 0 else length


class Lengths:
    """Counts lengths and answers with their quantiles."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.number = 0
        self.total = 0
        self._least = 0
        self._most = 0

    def add(self, length: int) -> None:
        self._least = length if self.number == 0 or length < self._least else self._least
        self._most = max(length, self._most)
        self.number += 1
        self.total += length
        self._counts[_bucket(length)] += 1

    def summary(self) -> dict[str, float | int]:
        if self.number == 0:
            return {"count": 0, "min": 0, "mean": 0, "p50": 0, "p95": 0, "p99": 0, "max": 0}
        return {
            "count": self.number,
            "min": self._least,
            "mean": round(self.total / self.number, 2),
            **self._quantiles({"p50": 0.5, "p95": 0.95, "p99": 0.99}),
            "max": self._most,
        }

    def _quantiles(self, wanted: dict[str, float]) -> dict[str, int]:
        found: dict[str, int] = {}
        waiting = list(wanted.items())
        seen = 0
        for length, count in sorted(self._counts.items()):
            seen += count
            while waiting and seen >= waiting[0][1] * self.number:
                found[waiting.pop(0)[0]] = max(self._least, min(length, self._most))
        return found
