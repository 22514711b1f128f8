"""The REST API, put together."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import FastAPI
from loguru import logger
from prometheus_client import Counter, Histogram
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.access.keys import KeyRing
from control_plane.api import (
    access,
    checkpoints,
    datasets,
    decisions,
    deployments,
    gateway,
    health,
    internal,
    jobs,
    limits,
    loading,
    logged,
    metrics,
    models,
    providers,
    retention,
    routes,
    serving,
    storage,
    sweeps,
    tokens,
    training,
    usage,
    webhooks,
    workers,
)
from control_plane.api.context import Context
from control_plane.api.description import describe_strictly
from control_plane.api.problems import DOCUMENTED, handle_problems
from control_plane.database import Database
from control_plane.datasets.analyzer import Analyzer
from control_plane.datasets.service import Datasets
from control_plane.deployments.checker import EngineChecker
from control_plane.gateway.lessons import LessonNews
from control_plane.gateway.snapshot import Snapshots
from control_plane.hints import PROVIDERS, Hints
from control_plane.jobs.intake import Intake
from control_plane.jobs.live import LiveEvents
from control_plane.jobs.queue import QueueView
from control_plane.jobs.references import References
from control_plane.jobs.service import Submissions
from control_plane.providers.keys import seal_anew as seal_providers_anew
from control_plane.settings import ControlPlaneSettings, settings
from control_plane.tokens.sealing import Sealer
from control_plane.tokens.service import seal_anew as seal_tokens_anew
from control_plane.training.checker import Checker
from control_plane.workers import service as presence
from imts_shared.contracts.jobs import JobKind
from imts_shared.logs import start_logging
from imts_shared.sealing import ServiceSeal
from imts_shared.storage import Storage

REQUESTS = Counter("imts_http_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram("imts_http_request_seconds", "Time to the first byte of the answer.", ["method", "route"])


class Observed:
    """Gives every request an id, counts it, and logs the ones that failed on our side."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()

        async def observe(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                route = getattr(scope.get("route"), "path", "unknown")
                REQUESTS.labels(scope["method"], route, message["status"]).inc()
                SECONDS.labels(scope["method"], route).observe(time.perf_counter() - started)
                if message["status"] >= 500:
                    logger.bind(request=request_id, route=route, status=message["status"]).warning("request failed")
            await send(message)

        await self.app(scope, receive, observe)


async def _stay_present(database: Database) -> None:
    """Beats once a second, so that the watcher knows since when workers could have been heard."""
    starting = True
    while True:
        with contextlib.suppress(SQLAlchemyError, OSError, TimeoutError):
            async with database.statements() as session:
                await presence.note_presence(session, presence.API, starting=starting)
            starting = False
        await asyncio.sleep(presence.API_BEAT_SECONDS)


async def _seal_anew(database: Database, sealer: Sealer, hints: Hints) -> None:
    """Once, as soon as the database answers: after this no secret in it needs an old secret key any more."""
    while True:
        with contextlib.suppress(SQLAlchemyError, OSError, TimeoutError):
            async with database.transaction() as session:
                tokens, troubles = await seal_tokens_anew(session, sealer)
                providers, more = await seal_providers_anew(session, sealer)
            break
        await asyncio.sleep(2)
    if tokens or providers:
        logger.bind(tokens=tokens, providers=providers).info("encrypted under the new secret key")
        hints.send(PROVIDERS)
    for trouble in (*troubles, *more):
        logger.bind(why=trouble).warning("a secret cannot be read")


@contextlib.asynccontextmanager
async def running(config: ControlPlaneSettings) -> AsyncIterator[Context]:
    url = config.database_url.get_secret_value()
    database = Database(url, config.database_pool_size)
    intake = Intake(url)
    files = Storage(config.storage_url, config.storage_options)
    analyzer = Analyzer(config.analyzer_url, config.service_key.get_secret_value())
    checker = Checker(config.training_url, config.service_key.get_secret_value())
    engines = EngineChecker(config.inference_url, config.service_key.get_secret_value())
    references = References(database, files, checker)
    queue = QueueView()
    context = Context(
        settings=config,
        database=database,
        hints=Hints(url),
        queue=queue,
        references=references,
        submissions=Submissions(database, intake, queue, references),
        live=LiveEvents(database),
        keys=KeyRing(database),
        storage=files,
        analyzer=analyzer,
        datasets=Datasets(database, files, analyzer),
        engines=engines,
        snapshots=Snapshots(database, Sealer.of(config), ServiceSeal(config.service_key.get_secret_value())),
        lessons=LessonNews(database),
    )
    context.hints.listen(context.queue.hear)
    context.hints.listen(context.live.hear)
    context.hints.listen(context.submissions.hear)
    context.hints.listen(context.keys.hear)
    context.hints.listen(context.snapshots.hear)
    context.hints.listen(context.lessons.hear)
    await context.hints.start()
    await intake.start()
    present = asyncio.create_task(_stay_present(database))
    sealing = asyncio.create_task(_seal_anew(database, Sealer.of(config), context.hints))
    try:
        yield context
    finally:
        present.cancel()
        sealing.cancel()
        await intake.stop()
        await analyzer.close()
        await checker.close()
        await engines.close()
        await context.hints.stop()
        await database.close()


def create_app(config: ControlPlaneSettings | None = None) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        config: ControlPlaneSettings = app.state.settings
        start_logging("control-plane-api", config.log_level, config.log_format)
        async with running(config) as context:
            app.state.context = context
            yield

    app = FastAPI(
        title="IMTS",
        version=version("imts-control-plane"),
        description="Jobs, data sets, models, deployments, providers, routes, usage, workers, keys and webhooks of an"
        " IMTS platform.",
        lifespan=lifespan,
        responses=DOCUMENTED,  # type: ignore[arg-type]
    )
    app.state.settings = config or settings()
    handle_problems(app)
    for kind in JobKind:
        app.include_router(jobs.kind_router(kind))
    for module in (
        jobs,
        metrics,
        checkpoints,
        logged,
        datasets,
        models,
        deployments,
        loading,
        workers,
        access,
        limits,
        webhooks,
        providers,
        routes,
        decisions,
        usage,
        retention,
        storage,
        sweeps,
        tokens,
        training,
        internal,
        serving,
        gateway,
        health,
    ):
        app.include_router(module.router)
    app.add_middleware(Observed)
    describe_strictly(app)
    return app
