"""A worker's process: Celery in the main thread, and what surrounds it."""

import os
import socket
import threading
import warnings
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

from celery import signals
from celery.exceptions import SecurityWarning
from loguru import logger

from imts_shared import __version__
from imts_shared.contracts.internal import RunMessage, WorkerBeat
from imts_shared.contracts.jobs import JobKind
from imts_shared.health import serve_health
from imts_shared.logs import start_logging
from imts_shared.settings import Settings
from imts_shared.worker import children, consumer
from imts_shared.worker.attempt import Attempt, Workplace
from imts_shared.worker.broker import TASK, celery_app, own_queue
from imts_shared.worker.gpus import Gpus
from imts_shared.worker.registrar import Registrar
from imts_shared.worker.scratch import Scratch

LONGEST_SHUTDOWN_SECONDS = 15.0


class Attempts:
    """The attempts that run here now."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._running: set[Attempt] = set()
        self._draining = False

    def run(self, message: dict[str, Any]) -> None:
        """A message that comes while the worker drains is dropped; its job is sent again to somebody else."""
        attempt = Attempt(self._place, RunMessage.model_validate(message))
        with self._lock:
            if self._draining:
                logger.bind(job=message.get("job_id")).info("message dropped while draining")
                return
            self._running.add(attempt)
        try:
            attempt.run()
        finally:
            with self._lock:
                self._running.discard(attempt)

    def drain(self) -> None:
        with self._lock:
            self._draining = True
            for attempt in self._running:
                attempt.shut_down()


def run_worker(
    service: str,
    kinds: list[str],
    engine: str,
    settings: Settings,
    health_port: int,
    slots: int = 1,
    preload: list[str] | None = None,
    options: dict[str, str] | None = None,
    gpus: Gpus | None = None,
) -> None:
    """Runs attempts of `kinds` by `engine` ("module:function") until told to end."""
    gpus = gpus or Gpus([])
    start_logging(service, settings.log_level, settings.log_format)
    worker_id = f"{service}-{uuid4().hex[:12]}"
    queue = f"imts.{worker_id}"
    scratch = Scratch(settings.home.absolute() / "scratch" / service, worker_id)
    children.preload(preload or [])
    children.warm_up()
    beat = WorkerBeat(
        worker_id=worker_id,
        name=f"{service}@{socket.gethostname()}",
        service=service,
        kinds=[JobKind(kind) for kind in kinds],
        slots=slots,
        queue=queue,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        devices=gpus.devices,
    )
    registrar = Registrar(settings.control_plane_url, settings.service_key.get_secret_value(), beat)

    warm = threading.Event()

    def ready() -> bool | str:
        if not consumer.connected.is_set():
            return "Redis is not reached"
        return registrar.known() if warm.is_set() else True

    attempts = Attempts(
        Workplace(
            worker_id=worker_id,
            engine=engine,
            control_plane_url=settings.control_plane_url,
            storage_url=settings.storage_url,
            storage_options=settings.storage_options,
            scratch=scratch.folder,
            options=options or {},
            gpus=gpus,
        )
    )
    health = serve_health(health_port, settings.host, service, ready, {"workerId": worker_id, "slots": slots})
    logger.bind(worker=worker_id, slots=slots, health=health.port).info("worker starts")

    def drain(**_: Any) -> None:
        threading.Thread(target=_end_in_time, args=(scratch,), name="end", daemon=True).start()
        threading.Thread(target=_drain, args=(attempts, registrar), name="drain", daemon=True).start()

    def register(**_: Any) -> None:
        threading.Thread(target=register_when_warm, name="warm", daemon=True).start()

    def register_when_warm() -> None:
        """Work that is sent before anything can be forked would only lose its attempt."""
        children.await_warm()
        warm.set()
        registrar.start()

    signals.worker_shutting_down.connect(drain, weak=False)
    signals.worker_ready.connect(register, weak=False)

    try:
        _consume(settings.redis_url.get_secret_value(), queue, slots, attempts)
    finally:
        registrar.leave()
        health.shutdown()
        scratch.remove()


def _consume(redis_url: str, queue: str, slots: int, attempts: Attempts) -> None:
    app = celery_app(redis_url)
    app.conf.update(
        task_queues=[own_queue(queue)],
        task_default_queue=queue,
        task_default_exchange="",
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_consumer="imts_shared.worker.consumer:SteadyConsumer",
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_heartbeat=0,
    )

    @app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def run(message: dict[str, Any]) -> None:
        attempts.run(message)

    warnings.filterwarnings("ignore", category=SecurityWarning)  # root matters to Celery for the sake of pickle
    app.Worker(
        pool="threads",
        concurrency=slots,
        hostname=queue,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        optimization="fair",
    ).start()


def _drain(attempts: Attempts, registrar: Registrar) -> None:
    logger.info("worker drains")
    registrar.drain()
    attempts.drain()


def _end_in_time(scratch: Scratch) -> None:
    """Whatever still waits after this long is left to the lease; children die with this process."""
    until = monotonic() + LONGEST_SHUTDOWN_SECONDS
    while monotonic() < until:
        sleep(0.2)
    logger.warning("worker ends with work unreported")
    scratch.remove()
    os._exit(1)
