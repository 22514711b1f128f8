"""One attempt of a training or export job, from its specification to its result."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imts_shared.worker.checkpoints import BadCheckpoint
from imts_shared.worker.engine import EngineJob
from training_service.failures import explained

if TYPE_CHECKING:
    from training_service.watching import Watch


def run(job: EngineJob) -> dict[str, Any]:
    from training_service.frameworks import ready

    ready()
    _own_devices(job)
    try:
        return _train(job)
    except Exception as error:
        better = explained(error)
        if better is None or better is error:
            raise
        raise better from error


def _own_devices(job: EngineJob) -> None:
    """This process sees its own GPUs and no others. Until now nothing here has spoken to a GPU's driver."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(job.devices)
    if not job.devices:
        return
    import torch
    from llamafactory.extras import misc
    from transformers.utils import import_utils

    torch.cuda.device_count.cache_clear()
    for known in vars(import_utils).values():
        if hasattr(known, "cache_clear") and getattr(known, "__name__", "").startswith("is_torch"):
            known.cache_clear()
    misc._is_fp16_available = torch.cuda.is_available()
    misc._is_bf16_available = torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def _train(job: EngineJob) -> dict[str, Any]:
    from training_service import configuration, data, results
    from training_service.models.finding import find
    from training_service.watching import Watch

    spec = job.spec
    device = _device(job)
    found = find(job, spec["modelName"], job.message)
    prepared = data.prepare(job, job.scratch / "data")
    job.obey()
    output = job.scratch / "output"
    arguments = configuration.with_places(
        configuration.arguments(spec, on_gpu=bool(job.devices)), found.folder, output, prepared.folder, prepared.train
    )
    arguments |= configuration.mixing(prepared.weights, spec.get("advanced", {}))
    if prepared.evaluation:
        arguments["eval_dataset"] = prepared.evaluation
    arguments.setdefault("template", found.template)
    _adapters(job, spec, found, arguments)
    resumed = _resume(job, output)
    if resumed is not None:
        arguments["resume_from_checkpoint"] = str(resumed)
    watch = Watch(job, float(spec.get("saveMinutes", 10)))
    _trainer(spec["stage"])(job, arguments, watch, output)
    details = {"template": arguments["template"], "device": device, "rows": prepared.rows}
    model = results.produced(job, found, output, watch, details)
    return {
        "models": [model.model_dump(mode="json", by_alias=True)],
        "metrics": watch.metrics,
        "steps": watch.steps,
        "tokens": watch.tokens,
        "seconds": round(watch.seconds, 3),
        "peakMemoryBytes": watch.peak_memory,
        "device": device,
    }


def _trainer(stage: str) -> Callable[[EngineJob, dict[str, Any], "Watch", Path], None]:
    if stage == "grpo":
        from training_service.stages import grpo

        return grpo.train
    from training_service.stages import llamafactory

    return llamafactory.train


def _device(job: EngineJob) -> str:
    if job.devices:
        import torch

        names = sorted({torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())})
        return f"{len(job.devices)} x {', '.join(names)}"
    if job.spec.get("gpus") != 0:
        job.message("This worker has no GPU: training runs on the CPU.")
    return "cpu"


def _adapters(job: EngineJob, spec: dict[str, Any], found: Any, arguments: dict[str, Any]) -> None:
    """A model that is an adapter is merged into what it stands on, and a new adapter trained on top; the adapter that
    `adapter` names is trained on instead."""
    from training_service.models.finding import find

    adapters = list(found.adapters)
    if spec.get("adapter"):
        adapters += find(job, spec["adapter"], job.message).adapters[-1:]
    elif adapters:
        arguments["create_new_adapter"] = True
    if adapters:
        arguments["adapter_name_or_path"] = ",".join(str(folder) for folder in adapters)


def _resume(job: EngineJob, output: Path) -> Path | None:
    if job.resume_from is None:
        return None
    folder = output / f"checkpoint-{job.resume_from.step}"
    try:
        job.restore(job.resume_from, folder)
    except BadCheckpoint as error:
        job.message(f"The checkpoint of step {job.resume_from.step} cannot be used ({error}): training starts anew.")
        return None
    job.message(f"Training goes on from the checkpoint of step {job.resume_from.step}.")
    return folder
