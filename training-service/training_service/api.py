"""The training service's API: what can be said of a job without running it."""

import asyncio
import os
import threading
import time

import httpx
import psutil
from fastapi import Depends, Request
from loguru import logger
from pydantic import Field

from imts_shared.contracts.base import Answer
from imts_shared.contracts.internal import Device
from imts_shared.contracts.problems import Problem
from imts_shared.contracts.training import CheckRequest, Estimate, TrainingCheck, TrainingRequest
from imts_shared.service.app import Key, Refused, create, problem, services_only
from imts_shared.worker import gpus
from training_service import checks
from training_service.estimate import Device as Place
from training_service.models import builtin
from training_service.models.making import NotMade, Workshop
from training_service.settings import settings


def _load() -> None:
    """The frameworks take ten seconds to import; the first question should not wait for all of them."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    from training_service.arguments import known

    began = time.monotonic()
    known("sft")
    logger.bind(seconds=round(time.monotonic() - began, 1)).info("argument classes are loaded")


def _start() -> None:
    threading.Thread(target=_load, name="load", daemon=True).start()


app = create(
    "training-api",
    "imts-training-service",
    settings,
    failure=problem(500, "check_failed", "The check failed; the service's log says why."),
    start=_start,
    title="IMTS training",
    description="Checks and estimates training jobs; the jobs themselves are submitted to the control plane.",
)
_service = services_only(settings)


@app.post("/check", response_model=TrainingCheck, dependencies=[Depends(_service)], summary="For the control plane")
async def check(request: CheckRequest) -> TrainingCheck:
    return await _check(request)


@app.post("/validate", response_model=TrainingCheck, summary="Check a training job as it would be submitted")
async def validate(_request: TrainingRequest, asked: Request, key: Key) -> TrainingCheck:
    return await _check(await _resolved(await asked.body(), key))


@app.post("/estimate", response_model=Estimate, summary="Memory, time and disk that a training job would need")
async def estimate(_request: TrainingRequest, asked: Request, key: Key) -> Estimate:
    found = (await _check(await _resolved(await asked.body(), key))).estimate
    assert found is not None
    return found


class BuiltinModel(Answer):
    folder: str
    ready: bool = Field(description="While it is not, it is being made; ask again.")


_workshop = Workshop()


@app.post(
    "/models/builtin/{name}",
    response_model=BuiltinModel,
    dependencies=[Depends(_service)],
    summary="Make a built-in model, for services that have no frameworks",
)
def make_builtin(name: str) -> BuiltinModel:
    if name not in builtin.TEMPLATES:
        known = ", ".join(builtin.TEMPLATES)
        raise Refused(problem(404, "unknown_model", f"There is no builtin:{name}.", hint=f"Built in are {known}."))
    models = settings().models
    try:
        ready = _workshop.asked(models, name)
    except NotMade as error:
        raise Refused(problem(503, "not_made", f"builtin:{name} could not be made: {error}")) from error
    return BuiltinModel(folder=str(models / "builtin" / name), ready=ready)


async def _check(request: CheckRequest) -> TrainingCheck:
    device = _place(request)
    rules = settings()
    return await asyncio.to_thread(
        checks.check,
        request.spec,
        request.inputs,
        request.models,
        device,
        rules.models,
        allow_internal=rules.allow_internal_rewards,
    )


def _place(request: CheckRequest) -> Place:
    devices = request.devices or _own_gpus()
    wanted = request.spec.get("gpus")
    if devices and wanted != 0:
        smallest = min(device.memory_bytes or 0 for device in devices)
        return Place(devices[0].name, smallest or 2**62, gpu=True)
    return Place("cpu", psutil.virtual_memory().total, gpu=False, cores=os.cpu_count() or 1)


_found_gpus: list[Device] | None = None


def _own_gpus() -> list[Device]:
    global _found_gpus  # noqa: PLW0603
    if _found_gpus is None:
        _found_gpus = gpus.found()
    return _found_gpus


async def _resolved(body: bytes, key: str) -> CheckRequest:
    """The control plane knows who may see which data set, and so it is asked with the caller's own key. It gets what
    the caller sent, to the byte, so that it refuses here what it would refuse there."""
    if not key:
        raise Refused(problem(401, "no_key", "An API key is needed here.", hint="Send `Authorization: Bearer <key>`."))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=settings().control_plane_url, timeout=10, trust_env=False) as client:
        try:
            answer = await client.post("/api/training/resolve", content=body, headers=headers)
        except httpx.TransportError as error:
            raise Refused(problem(503, "control_plane_unavailable", "The control plane does not answer.")) from error
    if answer.status_code != 200:
        raise Refused(Problem.model_validate_json(answer.content))
    return CheckRequest.model_validate_json(answer.content)
