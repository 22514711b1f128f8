"""The watcher's process: one leads and works, the others stand by."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable

import psycopg
import uvloop
from loguru import logger
from sqlalchemy.exc import SQLAlchemyError

import control_plane.tables  # noqa: F401 - a foreign key must find its table
from control_plane.database import Database
from control_plane.deployments.leases import look_after
from control_plane.hints import QUEUE, Hints
from control_plane.jobs.references import References
from control_plane.settings import ControlPlaneSettings, settings
from control_plane.training.checker import Checker
from control_plane.watcher.deliveries import Deliveries
from control_plane.watcher.dispatch import Dispatcher
from control_plane.watcher.leader import Leadership
from control_plane.watcher.leases import end_silent_attempts
from control_plane.watcher.looking import look
from control_plane.watcher.sweeps import SweepWatch
from control_plane.watcher.upkeep import Upkeep
from imts_shared.health import serve_health
from imts_shared.logs import start_logging
from imts_shared.storage import Storage
from imts_shared.worker.doorbell import Doorbell, DoorbellAway

LOOK_SECONDS = 1.0
LEAD_SECONDS = 2.0
DATABASE_ERRORS = (SQLAlchemyError, psycopg.Error, OSError, TimeoutError)


class Watcher:
    def __init__(self, config: ControlPlaneSettings) -> None:
        url = config.database_url.get_secret_value()
        self.config = config
        self.database = Database(url, 6)
        self.hints = Hints(url)
        self.leadership = Leadership(url)
        self.dispatcher = Dispatcher(self.database, self.hints, Doorbell(config.redis_url.get_secret_value()))
        self.deliveries = Deliveries(self.database, self.hints, config)
        storage = Storage(config.storage_url, config.storage_options)
        self.upkeep = Upkeep(self.database, self.hints, storage, config)
        self.checker = Checker(config.training_url, config.service_key.get_secret_value())
        self.sweeps = SweepWatch(self.database, self.hints, References(self.database, storage, self.checker))
        self.state = "starting"
        self._queue_changed = asyncio.Event()
        self.hints.listen(self._hear)

    def _hear(self, hint: str) -> None:
        if hint == QUEUE:
            self._queue_changed.set()
        self.sweeps.hear(hint)

    def ready(self) -> bool | str:
        return self.state in {"leading", "standing by"} or f"The watcher is {self.state}."

    async def run(self, stop: asyncio.Event) -> None:
        await self.hints.start()
        try:
            while not stop.is_set():
                try:
                    leads = await self.leadership.leads()
                except DATABASE_ERRORS as error:
                    self.state = "waiting for the database"
                    logger.bind(error=str(error)[:200]).warning("the database does not answer")
                    await _sleep(stop, LEAD_SECONDS)
                    continue
                if leads:
                    self.state = "leading"
                    await self._lead(stop)
                else:
                    self.state = "standing by"
                    await _sleep(stop, LEAD_SECONDS)
        finally:
            await self.leadership.resign()
            await self.hints.stop()
            await self.checker.close()
            await self.database.close()

    async def _lead(self, stop: asyncio.Event) -> None:
        """Works until told to stop or until the lock is lost; every loop ends with the leadership."""
        work = [
            asyncio.create_task(self._dispatch_loop()),
            asyncio.create_task(self._look_loop()),
            asyncio.create_task(self.deliveries.run()),
            asyncio.create_task(self.upkeep.run()),
            asyncio.create_task(self.sweeps.run()),
        ]
        try:
            while not stop.is_set() and not any(task.done() for task in work):
                await _sleep(stop, LEAD_SECONDS)
                if not stop.is_set():
                    await self.leadership.leads()
        except DATABASE_ERRORS as error:
            logger.bind(error=str(error)[:200]).warning("leadership lost")
        finally:
            for task in work:
                task.cancel()
            results = await asyncio.gather(*work, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _look_loop(self) -> None:
        while True:
            await _tried(self._look())
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        found = await look(self.database)
        if found.queued:
            self._queue_changed.set()
        chores: list[Awaitable[object]] = []
        if found.silent:
            chores.append(end_silent_attempts(self.database, self.hints))
        if found.amiss:
            chores.append(look_after(self.database, self.hints))
        await asyncio.gather(*map(_tried, chores))

    async def _dispatch_loop(self) -> None:
        while True:
            await self._queue_changed.wait()
            self._queue_changed.clear()
            try:
                await self.dispatcher.send_waiting()
            except DoorbellAway:
                await asyncio.sleep(1)
                self._queue_changed.set()
            except DATABASE_ERRORS as error:
                logger.bind(error=str(error)[:200]).warning("dispatch: the database does not answer")
                await asyncio.sleep(0.5)
                self._queue_changed.set()


async def _tried(work: Awaitable[object]) -> None:
    """What fails for the database's sake is tried again with the next look, and holds up nothing else."""
    try:
        await work
    except DATABASE_ERRORS as error:
        logger.bind(error=str(error)[:200]).warning("the database does not answer")


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def watch() -> None:
    config = settings()
    start_logging("control-plane-watcher", config.log_level, config.log_format)
    uvloop.run(_watch(config))


async def _watch(config: ControlPlaneSettings) -> None:
    watcher = Watcher(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = serve_health(config.watcher_port, config.host, "control-plane-watcher", watcher.ready)
    try:
        await watcher.run(stop)
    finally:
        health.shutdown()
