"""One watcher leads, by an advisory lock that Postgres lets go when the leader's connection dies."""

import psycopg
from loguru import logger

LOCK = 0x494D5457


class Leadership:
    """Holds the lock on a connection of its own, and asks that connection each time whether it still does."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: psycopg.AsyncConnection | None = None

    async def leads(self) -> bool:
        """Raises psycopg.Error when the database does not answer."""
        if self._connection is not None and self._connection.closed:
            self._connection = None
        if self._connection is not None:
            try:
                await self._connection.execute("SELECT 1")
            except psycopg.Error:
                await self.resign()
                raise
            return True
        connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=5, application_name="imts-leader"
        )
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))
        row = await cursor.fetchone()
        if row is None or not row[0]:
            await connection.close()
            return False
        logger.info("this watcher leads")
        self._connection = connection
        return True

    async def resign(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()
