"""How many threads a training takes: as many as there are cores that nobody else wants.

torch's threads spin while they wait for each other. On free cores that halves a small step's time; on cores that others
use as well it multiplies it, because each wait then lasts until the scheduler brings the missing thread back.
"""

import os
import time

import psutil
import torch

OFTEN_ENOUGH = 0.25
"""Seconds between two looks: the counters of the system go on in hundredths of a second."""
HARMLESS = 0.4
"""The part of a core that others may use without being given one."""


class Cores:
    """Looks, between steps, at what other processes used since the last look."""

    def __init__(self) -> None:
        self.most = torch.get_num_threads()
        self._there = os.cpu_count() or 1
        self._looked = self._look()

    def share(self) -> None:
        if time.monotonic() - self._looked[0] < OFTEN_ENOUGH:
            return
        now = self._look()
        elapsed, used, own = (new - old for new, old in zip(now, self._looked, strict=True))
        self._looked = now
        wanted = threads(self.most, self._there, max(0.0, used - own) / elapsed)
        if wanted != torch.get_num_threads():
            torch.set_num_threads(wanted)

    def _look(self) -> tuple[float, float, float]:
        """The time, what all processes of the machine have used, and what this one has, in seconds."""
        all_of_it, own = psutil.cpu_times(), os.times()
        unused = all_of_it.idle + getattr(all_of_it, "iowait", 0.0)
        counted_twice = getattr(all_of_it, "guest", 0.0) + getattr(all_of_it, "guest_nice", 0.0)
        return time.monotonic(), sum(all_of_it) - unused - counted_twice, own.user + own.system


def threads(most: int, cores: int, others: float) -> int:
    return max(1, min(most, int(cores - others + HARMLESS)))
