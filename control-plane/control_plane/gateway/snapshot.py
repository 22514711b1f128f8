"""What gateways need to know, as one document with a version that is its content's own hash."""

import asyncio
import contextlib
import hashlib
import time

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import Database
from control_plane.gateway import known, served
from control_plane.gateway.known import Providers
from control_plane.hints import DEPLOYMENTS, KEYS, PROJECTS, PROVIDERS, ROUTES
from control_plane.tokens.sealing import Sealer
from imts_shared.contracts.serving import Snapshot
from imts_shared.sealing import ServiceSeal

LOOK_SECONDS = 1.5
"""Hints may be lost, and keys expire without one."""
_NEWS = frozenset({DEPLOYMENTS, KEYS, PROJECTS, PROVIDERS, ROUTES})


async def read(session: AsyncSession, providers: Providers) -> Snapshot:
    found = Snapshot(
        version="",
        keys=await known.keys(session),
        models=await served.models(session),
        projects=await known.projects(session),
        providers=await providers.read(session),
        routes=await known.routes(session),
    )
    content = orjson.dumps(found.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return found.model_copy(update={"version": hashlib.sha256(content).hexdigest()[:32]})


class Snapshots:
    """One reading serves every gateway that waits in this process."""

    def __init__(self, database: Database, sealer: Sealer, seal: ServiceSeal) -> None:
        self._database = database
        self._providers = Providers(sealer, seal)
        self._newest: Snapshot | None = None
        self._read_at = -1e9
        self._reading = asyncio.Lock()
        self._news = asyncio.Event()
        self._stale = True
        self._closed = False

    def hear(self, hint: str) -> None:
        if hint in _NEWS:
            self._stale = True
            self._wake()

    def close(self) -> None:
        """Ends every waiting; gateways ask again."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def current(self) -> Snapshot:
        async with self._reading:
            if self._newest is None or self._stale or time.monotonic() - self._read_at >= LOOK_SECONDS:
                self._stale = False
                async with self._database.transaction() as session:
                    self._newest = await read(session, self._providers)
                self._read_at = time.monotonic()
            return self._newest

    async def other_than(self, version: str | None, wait: float) -> Snapshot:
        """As soon as it is another one, or the same after so many seconds."""
        until = time.monotonic() + wait
        while True:
            news = self._news
            found = await self.current()
            left = until - time.monotonic()
            if found.version != version or left <= 0 or self._closed:
                return found
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), min(left, LOOK_SECONDS))
