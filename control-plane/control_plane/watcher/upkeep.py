"""The house's upkeep: logs sealed into files, data sets judged late, rubbish taken out, old things pruned."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from loguru import logger
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from control_plane.database import Database
from control_plane.datasets.analyzer import Analyzer
from control_plane.datasets.service import Datasets
from control_plane.hints import DATASETS, Hints
from control_plane.jobs import logs
from control_plane.retention import service as retention
from control_plane.settings import ControlPlaneSettings
from imts_shared.storage import Storage, StorageError

UPLOAD_SECONDS = 24 * 3600.0


class Upkeep:
    def __init__(self, database: Database, hints: Hints, storage: Storage, config: ControlPlaneSettings) -> None:
        self._database = database
        self._hints = hints
        self._storage = storage
        self._config = config

    async def run(self) -> None:
        analyzer = Analyzer(self._config.analyzer_url, self._config.service_key.get_secret_value())
        datasets = Datasets(self._database, self._storage, analyzer)

        async def judge_late() -> None:
            if await datasets.inspect_unchecked():
                self._hints.send(DATASETS)

        chores: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (5, self.seal_logs),
            (5, judge_late),
            (5, self.take_out_trash),
            (600, self.prune),
            (600, self.forget_workers),
            (3600, self.sweep_uploads),
        ]
        try:
            await asyncio.gather(*(self._every(seconds, chore) for seconds, chore in chores))
        finally:
            await analyzer.close()

    @staticmethod
    async def _every(seconds: float, chore: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await chore()
            except (SQLAlchemyError, StorageError, OSError, TimeoutError) as error:
                logger.bind(chore=getattr(chore, "__name__", "?"), error=str(error)[:200]).warning("a chore failed")
            await asyncio.sleep(seconds)

    async def seal_logs(self) -> None:
        async with self._database.statements() as session:
            waiting = await logs.jobs_to_seal(session, 50)
        for job_id in waiting:
            async with self._database.transaction() as session:
                await logs.seal(session, self._storage, job_id)

    async def take_out_trash(self) -> None:
        """The files go first, then the line that names them: a crash between deletes nothing twice that matters."""
        while True:
            async with self._database.transaction() as session:
                rows = (
                    await session.execute(
                        text("SELECT id, prefix FROM storage_trash ORDER BY id LIMIT 50 FOR UPDATE SKIP LOCKED")
                    )
                ).all()
                for number, prefix in rows:
                    await asyncio.to_thread(self._storage.delete_prefix, prefix)
                    await session.execute(text("DELETE FROM storage_trash WHERE id = :id"), {"id": number})
            if not rows:
                return

    async def prune(self) -> None:
        removed = await retention.prune(self._database, self._config)
        if removed:
            logger.bind(**removed).info("pruned by the retention rules")

    async def forget_workers(self) -> None:
        async with self._database.transaction() as session:
            for table in ("workers", "inference_workers"):
                await session.execute(text(f"DELETE FROM {table} WHERE seen_at < clock_timestamp() - interval '1 day'"))

    async def sweep_uploads(self) -> None:
        """Uploads whose request died with its process."""
        folder = self._storage.local_path("uploads")
        if folder is None or not folder.is_dir():
            return
        for path in folder.iterdir():
            if time.time() - path.stat().st_mtime > UPLOAD_SECONDS:
                await asyncio.to_thread(self._storage.delete, f"uploads/{path.name}")
