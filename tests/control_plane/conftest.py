"""The real API on a real database, and a worker's side of the conversation."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from control_plane.access.keys import create
from control_plane.api.app import create_app
from control_plane.database import Database
from control_plane.jobs.references import References
from control_plane.settings import ControlPlaneSettings
from control_plane.settings import settings as cached_settings
from control_plane.training.checker import Checker
from imts_shared.contracts.access import KeyRequest, Role
from imts_shared.storage import Storage
from tests.conftest import SECRET_KEY, SERVICE_KEY, free_port, served
from tests.control_plane.sweeps_side import Side
from tests.control_plane.worker_side import WorkerSide

EMPTY = """
TRUNCATE jobs, job_events, job_metrics, job_logs, job_datasets, datasets, webhooks, webhook_deliveries,
         deployments, inference_workers, workers, presence, api_keys, storage_trash, prunings, projects,
         providers, routes, gateway_lives, usage, routing_decisions, routing_lessons, request_log CASCADE;
INSERT INTO projects (name, created_at) VALUES ('default', clock_timestamp()), ('other', clock_timestamp());
"""


@pytest.fixture
def config(database_url: str, storage_folder: Path, monkeypatch: pytest.MonkeyPatch) -> ControlPlaneSettings:
    for name in [name for name in os.environ if name.startswith("IMTS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("IMTS_DATABASE_URL", database_url)
    monkeypatch.setenv("IMTS_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("IMTS_STORAGE_URL", storage_folder.as_uri())
    monkeypatch.setenv("IMTS_SERVICE_KEY", SERVICE_KEY)
    monkeypatch.setenv("IMTS_SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv("IMTS_TRAINING_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("IMTS_INFERENCE_URL", "http://127.0.0.1:1")
    cached_settings.cache_clear()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(EMPTY)
    return cached_settings()


@pytest.fixture
async def database(config: ControlPlaneSettings) -> AsyncIterator[Database]:
    database = Database(config.database_url.get_secret_value(), 4)
    yield database
    await database.close()


_BUILT: list[FastAPI] = []


@contextlib.asynccontextmanager
async def control_plane(config: ControlPlaneSettings) -> AsyncIterator[str]:
    """The API behind a real server. Its routes, which take half a second to build, are used again; its state is not."""
    app = _BUILT.pop() if _BUILT else create_app(config)
    app.state.settings = config
    async with served(app, free_port()) as address:
        yield address
    _BUILT.append(app)


@pytest.fixture
async def url(config: ControlPlaneSettings) -> AsyncIterator[str]:
    async with control_plane(config) as address:
        yield address


NewKey = Callable[..., Any]


@pytest.fixture
def new_key(database: Database) -> NewKey:
    async def make(role: Role = Role.admin, project: str = "default") -> str:
        async with database.transaction() as session:
            return (await create(session, KeyRequest(name=f"{role} key", role=role, project=project))).key

    return make


@pytest.fixture
async def admin(url: str, new_key: NewKey) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {await new_key()}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
async def member(url: str, new_key: NewKey) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {await new_key(Role.member)}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
async def references(config: ControlPlaneSettings, database: Database) -> AsyncIterator[References]:
    checker = Checker(config.training_url, config.service_key.get_secret_value())
    yield References(database, Storage(config.storage_url), checker)
    await checker.close()


@pytest.fixture
async def side(admin: httpx.AsyncClient, url: str, database: Database, references: References) -> Side:
    worker = WorkerSide(url, database)
    await worker.join(kinds=("training",), slots=100)
    return Side(admin, worker, references)
