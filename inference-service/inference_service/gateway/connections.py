"""Connections to upstreams, kept open for a while: engines, and what an admin allowed, wherever they are; other
providers only outside."""

import asyncio
import socket
import ssl
from collections import deque
from dataclasses import dataclass

from imts_shared.addresses import is_internal
from inference_service.gateway.connection import Connection, Unreachable

IDLE_SECONDS = 3
"""Less than the 5 s after which vLLM and llama.cpp close an idle connection: one that is taken up again must not be
about to close."""


@dataclass(frozen=True, slots=True)
class Origin:
    """`inside`: it may lie within this machine or network."""

    host: str
    port: int
    tls: bool
    inside: bool


class Connections:
    """Entered for the life of the process."""

    def __init__(self, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[Origin, deque[tuple[float, Connection]]] = {}
        self._open: set[Connection] = set()
        self._tls: ssl.SSLContext | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Connections":
        self._loop = asyncio.get_running_loop()
        self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in tuple(self._open):
            connection.abort()

    async def take(self, origin: Origin) -> Connection:
        """Raises Unreachable."""
        return self._rested(origin) or await self._opened(origin)

    def done(self, origin: Origin, connection: Connection) -> None:
        """What was not used to the end of its answer is closed at once: so an engine hears that nobody listens."""
        if not connection.rest():
            self._close(connection)
            return
        self._idle.setdefault(origin, deque()).append((self._loop.time(), connection))
        if self._sweep is None:
            self._sweep = self._loop.call_later(IDLE_SECONDS, self._close_old)

    def idle(self, origin: Origin) -> int:
        return len(self._idle.get(origin, ()))

    def _rested(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        oldest = self._loop.time() - IDLE_SECONDS
        while idle:
            since, connection = idle.pop()
            if since >= oldest and not connection.lost:
                return connection
            self._close(connection)
        return None

    def _close_old(self) -> None:
        self._sweep = None
        oldest = self._loop.time() - IDLE_SECONDS
        for origin, idle in tuple(self._idle.items()):
            while idle and (idle[0][0] < oldest or idle[0][1].lost):
                self._close(idle.popleft()[1])
            if not idle:
                del self._idle[origin]
        if self._idle:
            self._sweep = self._loop.call_later(1, self._close_old)

    def _close(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.abort()

    async def _opened(self, origin: Origin) -> Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                connection = await self._connected(origin)
        except TimeoutError:
            raise Unreachable(f"{origin.host}:{origin.port} took no connection in time") from None
        except OSError as error:
            raise Unreachable(f"{origin.host}:{origin.port}: {error.strerror or error}") from error
        self._open.add(connection)
        return connection

    async def _connected(self, origin: Origin) -> Connection:
        addresses = [origin.host] if origin.inside else await self._outside(origin)
        tls, name = (self._tls, origin.host) if origin.tls else (None, None)
        trouble: OSError | None = None
        for address in addresses:
            try:
                _, made = await self._loop.create_connection(
                    Connection, address, origin.port, ssl=tls, server_hostname=name
                )
            except OSError as error:
                trouble = error
            else:
                return made
        raise trouble or OSError(None, f"{origin.host} has no address")

    async def _outside(self, origin: Origin) -> list[str]:
        """A name that leads to this machine or network leads nowhere, whatever it led to when it was written down."""
        found = await self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        if any(is_internal(address) for address in addresses):
            raise OSError(None, f"{origin.host} leads to an internal address, which an admin must allow")
        return addresses
