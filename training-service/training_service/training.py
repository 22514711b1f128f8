"""A training job from its specification to its result, alone or as one of several processes."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from imts_shared.worker.checkpoints import BadCheckpoint
from imts_shared.worker.engine import BadConfig, EngineJob
from training_service.data import Prepared
from training_service.devices import own_devices
from training_service.models.finding import Found

Meet = Callable[[dict[str, Any]], None]
"""Called with what LLaMA-Factory is given, when all is prepared: from then on this process is one of several."""


@dataclass(frozen=True)
class Work:
    """What is trained, and what LLaMA-Factory is given for it."""

    found: Found
    data: Prepared
    device: str
    output: Path
    arguments: dict[str, Any]

    @property
    def sharded(self) -> bool:
        """Whether no process has the whole model, so that none can be asked alone."""
        return bool(self.arguments.get("fsdp") or self.arguments.get("deepspeed"))


def train(job: EngineJob, meet: Meet | None = None) -> dict[str, Any]:
    """What a process does that trains alone, or as the first of several."""
    from training_service import results
    from training_service.leaving import upon_order
    from training_service.samples import Samples
    from training_service.stages import trainer
    from training_service.watching import Watch

    began = monotonic()
    work = prepared(job)
    if meet is not None:
        meet(work.arguments)
    else:
        upon_order(job)
    samples = None if work.sharded else Samples(job, work.data.folder, work.data.train[0], work.arguments["template"])
    watch = Watch(job, float(job.spec.get("saveMinutes", 10)), samples)
    trainer(job.spec["stage"])(job, work.arguments, watch, work.output)
    details = {"template": work.arguments["template"], "device": work.device, "rows": work.data.rows}
    model = results.produced(job, work.found, work.output, watch, details)
    return {
        "models": [model.model_dump(mode="json", by_alias=True)],
        "metrics": watch.metrics,
        "steps": watch.steps,
        "tokens": watch.tokens,
        "seconds": round(watch.seconds, 3),
        "peakMemoryBytes": watch.peak_memory,
        "device": work.device,
        **({"samples": samples.found} if samples and samples.found else {}),
        **_hindsight(job, work.found.folder, work.device, watch, monotonic() - began),
    }


def _hindsight(job: EngineJob, folder: Path, device: str, watch: Any, seconds: float) -> dict[str, Any]:
    """How far the estimate was off; and the device's speed for the next one."""
    from training_service import architecture, estimate

    size = architecture.of_folder(folder)
    if size is not None and job.resume_from is None:
        estimate.learn_speed(Path(job.options["models"]), device, job.spec, size, watch.tokens, watch.seconds)
    said = job.spec.get("estimate")
    if not said or job.resume_from is not None:
        return {}
    taken = {"seconds": seconds, "memoryBytes": watch.peak_memory, "tokens": watch.tokens, "steps": watch.steps}
    error = {name: round(said[name] / real - 1, 4) for name, real in taken.items() if said.get(name) and real}
    return {"estimateError": error}


def prepared(job: EngineJob) -> Work:
    from training_service import configuration, data
    from training_service.models.finding import find

    own_devices(job)
    if "wandb" in job.secrets:
        os.environ["WANDB_API_KEY"] = job.secrets["wandb"]
    spec = job.spec
    _obeying_the_rules(spec)
    device = _device(job)
    found = find(job, spec["modelName"], job.message)
    files = data.prepare(job, job.scratch / "data")
    job.obey()
    output = job.scratch / "output"
    arguments = configuration.with_places(
        configuration.arguments(spec, on_gpu=bool(job.devices)), found.folder, output, files.folder, files.train
    )
    arguments |= configuration.mixing(files.weights, spec.get("advanced", {}))
    if files.evaluation:
        arguments["eval_dataset"] = files.evaluation
    arguments.setdefault("template", found.template)
    _adapters(job, spec, found, arguments)
    trusted = found.trust_remote_code
    if spec.get("refModel"):
        reference = find(job, spec["refModel"], job.message)
        _reference(reference, arguments)
        trusted = trusted and reference.trust_remote_code
    arguments["trust_remote_code"] = bool(spec.get("trustRemoteCode")) and trusted
    resumed = _resume(job, output)
    if resumed is not None:
        arguments["resume_from_checkpoint"] = str(resumed)
        if spec["stage"] == "rm":
            _weights_of(resumed, spec, arguments)
    return Work(found, files, device, output, arguments)


def _obeying_the_rules(spec: dict[str, Any]) -> None:
    """Checked when it was submitted, unless this service was away then."""
    from training_service.arguments import advanced_notes

    for note in advanced_notes(spec.get("advanced", {}), spec["stage"]):
        if note.level == "error":
            raise BadConfig(f"{note.field}: {note.message}", note.hint or "Change that field.")


def assist(job: EngineJob, arguments: dict[str, Any], meet: Meet | None = None) -> None:
    """What the other processes do: the same training, of which they say and store nothing."""
    from training_service.stages import trainer
    from training_service.watching import Watch

    own_devices(job)
    if meet is not None:
        meet(arguments)
    trainer(job.spec["stage"])(job, arguments, Watch(job, 0, reports=False), Path(arguments["output_dir"]))


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


def _reference(found: Found, arguments: dict[str, Any]) -> None:
    """The model whose answers a preference is measured against, instead of what training starts from."""
    arguments["ref_model"] = str(found.folder)
    if found.adapters:
        arguments["ref_model_adapters"] = ",".join(str(folder) for folder in found.adapters)


def _weights_of(checkpoint: Path, spec: dict[str, Any], arguments: dict[str, Any]) -> None:
    """A reward model's value head is loaded with its model, not by the trainer: so the model is the checkpoint's. The
    adapter in it stands on those that were merged, and instead of the one that was trained on."""
    if (checkpoint / "adapter_config.json").is_file():
        below = [name for name in arguments.get("adapter_name_or_path", "").split(",") if name]
        if spec.get("adapter"):
            below.pop()
        arguments["adapter_name_or_path"] = ",".join([*below, str(checkpoint)])
        arguments.pop("create_new_adapter", None)
    else:
        arguments["model_name_or_path"] = str(checkpoint)


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
