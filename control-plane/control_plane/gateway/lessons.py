"""Lessons on their way to gateways that wait for them."""

import asyncio
import contextlib
import time

from control_plane.database import Database
from control_plane.hints import LESSONS
from control_plane.routing import lessons
from imts_shared.contracts.routes import Lessons

LOOK_SECONDS = 1.5
"""Hints may be lost."""


class LessonNews:
    """Each gateway has its own question, for each leaves out its own lessons."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._news = asyncio.Event()
        self._closed = False

    def hear(self, hint: str) -> None:
        if hint == LESSONS:
            self._wake()

    def close(self) -> None:
        """Ends every waiting; gateways ask again."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def after(self, number: int, gateway: str, limit: int, wait: float) -> Lessons:
        """As soon as there is one of another gateway, or none after so many seconds."""
        until = time.monotonic() + wait
        while True:
            news = self._news
            async with self._database.statements() as session:
                found = await lessons.after(session, number, gateway, limit)
            left = until - time.monotonic()
            if found.items or found.number < number or left <= 0 or self._closed:
                return found
            number = found.number
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), min(left, LOOK_SECONDS))
