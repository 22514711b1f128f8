"""The database: one engine a process, one transaction a request, ids and the clock."""

import os
import threading
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine


def sqlalchemy_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError("database_url must be postgresql://user:password@host:port/name")
    return f"postgresql+psycopg://{rest}"


def plain_url(url: str) -> str:
    return "postgresql://" + url.partition("://")[2]


def _dumps(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


class Database:
    def __init__(self, url: str, pool_size: int = 10) -> None:
        self.url = plain_url(url)
        self.engine: AsyncEngine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=15,
            pool_use_lifo=True,
            hide_parameters=True,
            json_serializer=_dumps,
            json_deserializer=orjson.loads,
            connect_args={"connect_timeout": 5, "application_name": "imts", "prepare_threshold": 3},
        )
        event.listen(self.engine.sync_engine, "connect", _set_session)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False, autoflush=False)
        alone = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._alone = async_sessionmaker(alone, expire_on_commit=False, autoflush=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Commits at the end of the block, rolls back on any exception."""
        async with self._sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[AsyncSession]:
        """Each statement is a transaction by itself: a single one visits the database once instead of three times."""
        async with self._alone() as session:
            yield session

    async def close(self) -> None:
        await self.engine.dispose()


def _set_session(connection: Any, _record: object) -> None:
    """A lost client or a forgotten transaction never holds rows for long.

    Plans are made for the values at hand: how rare a label or a word is decides which index is right.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SET timezone = 'UTC'; SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '10s';"
            " SET statement_timeout = '60s'; SET plan_cache_mode = force_custom_plan"
        )
    connection.commit()


_id_lock = threading.Lock()
_last_id = 0


def new_id() -> uuid.UUID:
    """A UUIDv7 that grows with every call in this process, so that ids sort as things happened."""
    global _last_id  # noqa: PLW0603 - the last id given is the state that makes ids grow
    with _id_lock:
        stamp = (time.time_ns() // 1_000_000 << 12) | (int.from_bytes(os.urandom(2)) & 0x3FF)
        _last_id = max(_last_id + 1, stamp)
        milliseconds, counter = _last_id >> 12, _last_id & 0xFFF
    value = (milliseconds << 80) | (0x7 << 76) | (counter << 64) | (0b10 << 62)
    return uuid.UUID(int=value | (int.from_bytes(os.urandom(8)) >> 2))


def parse_id(text: str) -> uuid.UUID | None:
    """The id that a path names, or None for anything that cannot be one."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def take_advisory_lock(connection: Connection, number: int) -> bool:
    return bool(connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({number})").scalar())
