"""The watcher's part in sweeps: a look every two seconds, and at once when one of their jobs has news."""

import asyncio
import contextlib
from uuid import UUID

import psycopg
from loguru import logger
from sqlalchemy.exc import SQLAlchemyError

from control_plane.database import Database
from control_plane.hints import SWEEPS, Hints, job_hint
from control_plane.jobs.references import References
from control_plane.sweeps.advancing import advance_all

LOOK_SECONDS = 2.0
BREATH_SECONDS = 0.2
"""Jobs that report often do not make it look more often than that."""


class SweepWatch:
    def __init__(self, database: Database, hints: Hints, references: References) -> None:
        self._database = database
        self._hints = hints
        self._references = references
        self._news = asyncio.Event()
        self._waited_for: set[str] = set()

    def hear(self, hint: str) -> None:
        self._references.hear(hint)
        if hint == SWEEPS or hint in self._waited_for:
            self._news.set()

    async def run(self) -> None:
        while True:
            self._news.clear()
            try:
                self._wait_for(await advance_all(self._database, self._references, self._hints))
            except (SQLAlchemyError, psycopg.Error, OSError, TimeoutError) as error:
                logger.bind(error=str(error)[:200]).warning("sweeps: the database does not answer")
            await asyncio.sleep(BREATH_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_SECONDS - BREATH_SECONDS)

    def _wait_for(self, jobs: set[UUID]) -> None:
        self._waited_for = {job_hint(job_id) for job_id in jobs}
