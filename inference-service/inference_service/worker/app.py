"""The inference worker: an API that checks, and behind it the work."""

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from uuid import uuid4

import psutil
from fastapi import Depends

from imts_shared.contracts.deployments import Engine
from imts_shared.contracts.problems import FieldNote, Problem
from imts_shared.contracts.serving import EngineCheck, EngineCheckRequest
from imts_shared.service.app import create, problem, services_only
from imts_shared.settings import SettingsFileError
from imts_shared.worker.gpus import Gpus, found
from imts_shared.worker.scratch import Scratch
from inference_service.engines import llamacpp
from inference_service.engines.environment import VllmEnvironment
from inference_service.launch.launcher import Launcher
from inference_service.launch.machine import Machine
from inference_service.models.finding import Finder
from inference_service.room import GIB, SHARE
from inference_service.settings import InferenceSettings, settings
from inference_service.worker.engine_run import Engines
from inference_service.worker.said import Said
from inference_service.worker.shelf import Shelf
from inference_service.worker.sync import Sync

NOT_YET = "vLLM is not installed here yet, so its arguments are checked when it starts."
"""Installing it takes longer than anybody waits for an answer."""


@cache
def environment() -> VllmEnvironment:
    return VllmEnvironment(settings())


@contextlib.asynccontextmanager
async def _working() -> AsyncIterator[None]:
    rules = settings()
    finder = Finder(rules, environment())
    launching = _cluster(rules) if rules.launcher == "kubernetes" else _machine(rules)
    async with launching as (launcher, worker_id):
        engines = Engines(rules, launcher, Said(), finder, environment())
        sync = Sync(engines, Shelf(engines), worker_id)
        working = [
            asyncio.create_task(sync.run(), name="sync"),
            asyncio.create_task(environment().look(), name="options"),
        ]
        yield
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        await sync.leave()


@contextlib.asynccontextmanager
async def _machine(rules: InferenceSettings) -> AsyncIterator[tuple[Launcher, str]]:
    worker_id = _worker_id(rules)
    budget = int(rules.inference_memory_gb * GIB) if rules.inference_memory_gb else int(_memory() * SHARE)
    gpus = Gpus(await asyncio.to_thread(found, os.environ.get("CUDA_VISIBLE_DEVICES")), rules.gpu_locks)
    try:
        scratch = Scratch(rules.home.absolute() / "scratch" / "inference-service", worker_id)
    except FileExistsError as error:
        raise SettingsFileError(
            f"An inference worker of this home runs already at port {rules.inference_worker_port}. End it, or give this"
            " one another IMTS_INFERENCE_WORKER_PORT."
        ) from error
    yield Machine(rules, gpus, budget, scratch.folder), worker_id
    scratch.remove()


def _worker_id(rules: InferenceSettings) -> str:
    """The same after each start, so that a worker that comes back has its deployments at once and no lease has to run
    out for it; another one for each worker of a machine and of a home."""
    if rules.inference_worker_port == 0:
        return f"inference-{uuid4().hex[:12]}"
    place = f"{socket.gethostname()} {rules.home.absolute()} {rules.inference_worker_port}"
    return f"inference-{hashlib.sha256(place.encode()).hexdigest()[:12]}"


@contextlib.asynccontextmanager
async def _cluster(rules: InferenceSettings) -> AsyncIterator[tuple[Launcher, str]]:
    from inference_service.launch.kubernetes.api import connect  # half a second and 90 MB that no other worker needs
    from inference_service.launch.kubernetes.launcher import Kubernetes

    kubernetes = Kubernetes(rules, connect(rules))
    yield kubernetes, kubernetes.worker_id
    await kubernetes.close()


def _memory() -> int:
    """Of the machine, or of the container."""
    total = int(psutil.virtual_memory().total)
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(limit).read_text()))
    return total


app = create(
    "inference-worker",
    "imts-inference-service",
    settings,
    failure=problem(500, "check_failed", "The check failed; the worker's log says why."),
    running=_working,
    title="IMTS inference worker",
    description="Runs engines for the control plane. Deployments are asked for there.",
)


@app.post(
    "/check",
    response_model=EngineCheck,
    dependencies=[Depends(services_only(settings))],
    responses={401: {"model": Problem}},
    summary="Whether an engine would take these arguments",
)
async def check(request: EngineCheckRequest) -> EngineCheck:
    if request.engine == Engine.llamacpp:
        faults = llamacpp.checked(request.engine_args)
    else:
        options = environment().options
        if options is None:
            return EngineCheck(ok=True, notes=[FieldNote(level="warning", field="engineArgs", message=NOT_YET)])
        faults = options.checked(request.engine_args)
    return EngineCheck(ok=not faults, notes=faults)
