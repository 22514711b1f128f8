"""Sums of surprises (CUSUM): they notice a change that no single answer shows."""

from typing import Final

SLACK: Final = 0.5
"""In units of the noise: what answers may be off by without adding up."""


class Surprises:
    """One pair of sums for each part of the requests: all of them, a domain, a language."""

    def __init__(self) -> None:
        self._falls: dict[int, tuple[float, int]] = {}
        self._rises: dict[int, tuple[float, int]] = {}

    def note(self, part: int, surprise: float, bound: float) -> float:
        """By how much the part has changed, in units of the noise; 0.0 while nothing says so."""
        for sums, sign in ((self._falls, -1.0), (self._rises, 1.0)):
            total, count = sums.get(part, (0.0, 0))
            total, count = total + sign * surprise - SLACK, count + 1
            if total > bound:
                return sign * (total / count + SLACK)
            sums[part] = (total, count) if total > 0 else (0.0, 0)
        return 0.0

    def forget(self) -> None:
        self._falls.clear()
        self._rises.clear()
