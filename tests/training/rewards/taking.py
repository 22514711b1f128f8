"""How long something takes, whatever else the process has to do: of several times the least."""

import time
from collections.abc import Callable


def least_seconds(work: Callable[[], object], times: int = 3) -> float:
    """Another collection of garbage over all that the test run holds may take most of a second; it does not come each
    time, and what is slow by itself is slow each time."""
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)
