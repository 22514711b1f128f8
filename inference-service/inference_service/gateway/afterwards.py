"""What is noted of a request once its caller has the answer: a moment later, so that it holds up nobody's next one."""

import asyncio
from collections import deque
from collections.abc import Callable

from loguru import logger

SECONDS = 0.005
AT_ONCE = 4
SHARE_AT_ONCE = 4
"""Of many that wait, one in so many is done at once, so that they never become more and more."""


class Afterwards:
    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._timer: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Callable[[], None]) -> None:
        self._waiting.append(work)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SECONDS, self._some)

    def all(self) -> None:
        """For one who needs to know what came of requests that have ended."""
        while self._waiting:
            self._one()

    def _some(self) -> None:
        for _ in range(min(len(self._waiting), max(AT_ONCE, len(self._waiting) // SHARE_AT_ONCE))):
            self._one()
        self._timer = asyncio.get_running_loop().call_soon(self._some) if self._waiting else None

    def _one(self) -> None:
        work = self._waiting.popleft()
        try:
            work()
        except Exception:  # noqa: BLE001 - one request's trouble is not the others'
            logger.exception("not all is known of a request")
