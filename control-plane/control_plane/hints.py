"""Hints between processes over NOTIFY: "look there, something is new".

A hint is sent after the commit, from one connection of its own, and hints of a few milliseconds travel together.
NOTIFY inside a transaction would take a lock that lets only one transaction of the whole database commit at a time.
A hint that is lost with its process costs a reader a few seconds, for every reader also looks by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import psycopg
from loguru import logger

CHANNEL = "imts"
QUEUE = "queue"
"""There is something to send, or room to send it to."""
MOVED = "moved"
"""Jobs have left the queue."""
KEYS = "keys"
DELIVERIES = "deliveries"
QUOTAS = "quotas"
DATASETS = "datasets"
MODELS = "models"
SWEEPS = "sweeps"
DEPLOYMENTS = "deployments"
"""What gateways or workers are told of deployments has changed."""
PROJECTS = "projects"
"""What the gateway knows of projects has changed: limits, what is logged."""
PROVIDERS = "providers"
ROUTES = "routes"
LESSONS = "lessons"
_OF_ALL_KINDS = (
    QUEUE, MOVED, KEYS, DELIVERIES, QUOTAS, DATASETS, MODELS, SWEEPS, DEPLOYMENTS, PROJECTS, PROVIDERS, ROUTES, LESSONS,
)  # fmt: skip
_GATHER_SECONDS = 0.002
_PAYLOAD_BYTES = 7_500

Listener = Callable[[str], None]


def job_hint(job_id: UUID) -> str:
    return f"job:{job_id}"


class Hints:
    """Sends and receives. `listen` callbacks are called in the event loop, with hints of this process too."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._waiting: set[str] = set()
        self._something = asyncio.Event()
        self._listeners: list[Listener] = []
        self._tasks: list[asyncio.Task[None]] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def send(self, *hints: str) -> None:
        """Tells this process at once and all others in a moment. Call it after the commit."""
        for hint in hints:
            self._tell(hint)
        self._waiting.update(hints)
        self._something.set()

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._keep(self._send_all)),
            asyncio.create_task(self._keep(self._receive)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tell(self, hint: str) -> None:
        for listener in self._listeners:
            listener(hint)

    async def _keep(self, work: Callable[[psycopg.AsyncConnection], Awaitable[None]]) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5, application_name="imts-hints"
                ) as connection:
                    await work(connection)
            except (psycopg.Error, OSError) as error:
                logger.bind(error=type(error).__name__).warning("hints: connection lost")
                await asyncio.sleep(0.5)

    async def _send_all(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            await self._something.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._something.clear()
            hints, self._waiting = self._waiting, set()
            for payload in _payloads(hints):
                await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))

    async def _receive(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute(f"LISTEN {CHANNEL}")
        own = connection.info.backend_pid
        for hint in _OF_ALL_KINDS:
            self._tell(hint)
        async for notice in connection.notifies():
            if notice.pid != own:
                for hint in notice.payload.split(","):
                    self._tell(hint)


def _payloads(hints: set[str]) -> list[str]:
    payloads: list[str] = []
    line = ""
    for hint in hints:
        if line and len(line) + len(hint) + 1 > _PAYLOAD_BYTES:
            payloads.append(line)
            line = ""
        line = f"{line},{hint}" if line else hint
    return [*payloads, line] if line else payloads
