"""Storing new jobs: what arrives while one statement runs is stored by the next, all of it in one transaction.

A lone submission is stored at once; under load many share one commit. A job is acknowledged only after its commit.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_FIELDS = """
    id uuid, project text, kind text, name text, priority int, labels jsonb, spec jsonb, max_attempts int,
    timeout_seconds int, created_by uuid, clone_of uuid, key text, hash text, datasets uuid[], models jsonb
"""

INSERT = f"""
WITH asked AS (
    SELECT * FROM jsonb_to_recordset(CAST(%s AS jsonb)) AS asked({_FIELDS})
), job AS (
    INSERT INTO jobs (id, project, kind, state, name, priority, labels, spec, max_attempts, timeout_seconds,
                      created_at, created_by, clone_of, idempotency_key, request_hash)
    SELECT id, project, kind, 'queued', name, priority, labels, spec, max_attempts, timeout_seconds,
           clock_timestamp(), created_by, clone_of, key, decode(hash, 'hex') FROM asked
    ON CONFLICT (project, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, project, kind, name, labels, created_at
), event AS (
    INSERT INTO job_events (job_id, seq, type, at, data)
    SELECT id, 1, 'state', created_at, '{{"state": "queued", "attempt": 0}}'::jsonb FROM job
), input AS (
    INSERT INTO job_datasets (job_id, dataset_id)
    SELECT job.id, unnest(asked.datasets) FROM job JOIN asked ON asked.id = job.id
), model AS (
    INSERT INTO job_models (job_id, model_id, named)
    SELECT job.id, read.id, read.named FROM job JOIN asked ON asked.id = job.id
    CROSS JOIN LATERAL jsonb_to_recordset(asked.models) AS read(id uuid, named text)
), told AS (
    INSERT INTO webhook_deliveries (webhook_id, event, state, tries, next_try_at, created_at)
    SELECT w.id, jsonb_build_object('type', 'job.queued', 'timestamp', job.created_at, 'data', jsonb_build_object(
               'id', job.id, 'kind', job.kind, 'name', job.name, 'project', job.project, 'labels', job.labels,
               'seq', 1, 'state', 'queued', 'attempt', 0)),
           'pending', 0, job.created_at, job.created_at
    FROM job JOIN webhooks w ON w.project = job.project AND 'queued' = ANY(w.states)
         AND (w.kinds = '{{}}' OR job.kind = ANY(w.kinds))
    RETURNING 1
)
SELECT job.id, job.created_at, EXISTS (SELECT 1 FROM told) FROM job
"""
_INSERT_NAMED = text(INSERT.replace("%s", ":rows"))

AT_ONCE = 200


@dataclass
class Draft:
    """A job about to be stored."""

    id: UUID
    project: str
    kind: str
    name: str | None
    priority: int
    labels: dict[str, str]
    spec: dict[str, Any]
    max_attempts: int
    timeout_seconds: int | None
    created_by: UUID | None = None
    clone_of: UUID | None = None
    key: str | None = None
    hash: str | None = None
    datasets: list[UUID] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    """Registered models: `id`, and `named` as the job calls it."""


@dataclass(frozen=True)
class Stored:
    created_at: datetime
    told_webhooks: bool


async def store(session: AsyncSession, draft: Draft) -> Stored | None:
    """Stores one job in the session's transaction; None when its Idempotency-Key is taken."""
    found = (await session.execute(_INSERT_NAMED, {"rows": orjson.dumps([draft]).decode()})).one_or_none()
    return Stored(found[1], found[2]) if found else None


class Intake:
    """One connection of its own, one statement at a time."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._waiting: list[tuple[Draft, asyncio.Future[Stored | None]]] = []
        self._something = asyncio.Event()
        self._connection: psycopg.AsyncConnection | None = None
        self._writer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._writer = asyncio.create_task(self._write())

    async def stop(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()

    async def store(self, draft: Draft) -> Stored | None:
        """The committed job, or None when its Idempotency-Key is taken. Raises psycopg.Error as the statement does."""
        future: asyncio.Future[Stored | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((draft, future))
        self._something.set()
        return await future

    async def _write(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                try:
                    await self._store_all(batch)
                finally:
                    for _, future in batch:
                        if not future.done():
                            future.cancel()

    async def _store_all(self, batch: list[tuple[Draft, "asyncio.Future[Stored | None]"]]) -> None:
        try:
            found = await self._execute([draft for draft, _ in batch])
        except psycopg.OperationalError as error:
            for _, future in batch:
                _fail(future, error)
        except psycopg.Error as error:
            await self._store_singly(batch, error)
        else:
            for draft, future in batch:
                _succeed(future, found.get(draft.id))

    async def _store_singly(
        self, batch: list[tuple[Draft, "asyncio.Future[Stored | None]"]], error: psycopg.Error
    ) -> None:
        """One submission that cannot be stored must not take its neighbours along."""
        if len(batch) == 1:
            _fail(batch[0][1], error)
            return
        for entry in batch:
            await self._store_all([entry])

    async def _execute(self, drafts: Sequence[Draft]) -> dict[UUID, Stored]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                connect_timeout=5,
                application_name="imts-intake",
                options="-c timezone=UTC -c statement_timeout=30s -c lock_timeout=10s",
            )
        cursor = await self._connection.execute(INSERT, (orjson.dumps(drafts).decode(),), prepare=True)
        return {identity: Stored(at, told) for identity, at, told in await cursor.fetchall()}


def _succeed(future: "asyncio.Future[Stored | None]", stored: Stored | None) -> None:
    if not future.done():
        future.set_result(stored)


def _fail(future: "asyncio.Future[Stored | None]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
