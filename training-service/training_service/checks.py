"""Everything that can be said against a job before it runs."""

import importlib.util
import math
import shutil
from pathlib import Path
from typing import Any

from imts_shared.contracts.internal import DatasetInput
from imts_shared.contracts.models import BUILTIN_MODELS, ModelInput, ModelKind
from imts_shared.contracts.problems import FieldNote
from imts_shared.contracts.training import Estimate, TrainingCheck
from imts_shared.worker.engine import BadConfig
from training_service import architecture, configuration, estimate, launch
from training_service.arguments import advanced_notes, grpo_note, parse_note, template_note
from training_service.data import check_form
from training_service.models import builtin
from training_service.models.hub import HUB_ID
from training_service.rewards.choice import check_public, read_choices

REPORTERS = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "trackio": "trackio",
    "comet_ml": "comet_ml",
    "clearml": "clearml",
    "neptune": "neptune",
    "dvclive": "dvclive",
    "none": "json",
}


OF_GRPO = ("rewards", "groupSize", "maxCompletionLength", "temperature")
NOT_IN_GRPO = {
    "earlyStoppingSteps": "An evaluation of grpo gives rewards, and no loss to stop by.",
    "packing": "Answers to prompts cannot be packed.",
    "refModel": "The reference of grpo is the model that it begins with.",
}


def check(
    spec: dict[str, Any],
    inputs: list[DatasetInput],
    models: list[ModelInput],
    device: estimate.Device,
    folder: Path,
    *,
    allow_internal: bool = False,
) -> TrainingCheck:
    notes: list[FieldNote] = []
    notes += _stage_notes(spec)
    notes += _data_notes(spec, inputs)
    notes += _model_notes(spec, models)
    notes += _adapter_notes(spec, models)
    notes += _device_notes(spec, device)
    notes += advanced_notes(spec.get("advanced", {}), spec["stage"])
    notes += _other_notes(spec)
    notes += [_error(one.field, one.message, one.hint) for one in launch.objections(spec)]
    if spec.get("template") and (note := template_note(spec["template"])):
        notes.append(note)
    arguments = configuration.arguments(spec, on_gpu=device.gpu)
    notes += _grpo_notes(spec, arguments, allow_internal)
    if spec["stage"] not in ("grpo", "ppo") and not any(note.level == "error" for note in notes):
        placed = configuration.with_places(arguments, Path("model"), Path("output"), Path("data"), ["data"])
        if (spec.get("processes") or 1) > 1 or (spec.get("gpus") or 1) > 1:
            placed.pop("fsdp", None)
        if note := parse_note(placed):
            notes.append(note)
    found = _estimate(spec, inputs, models, device, folder)
    notes += _room_notes(spec, inputs, models, device, found, folder)
    return TrainingCheck(
        ok=not any(note.level == "error" for note in notes), notes=notes, estimate=found, arguments=arguments
    )


def _stage_notes(spec: dict[str, Any]) -> list[FieldNote]:
    notes = []
    stage, how = spec["stage"], spec["finetuningType"]
    if stage == "ppo":
        notes.append(
            _error(
                "stage",
                "ppo cannot run here: TRL 0.24's PPOTrainer was tried and trains, but it hears no order to stop, cannot"
                " resume (its checkpoints lack the value model), and takes sequence classifiers where stage rm leaves"
                " an adapter with a value head; LLaMA-Factory's own needs a TRL older than 0.10.",
                "Take grpo, which needs no value model, or dpo with preferences.",
            )
        )
    if stage == "grpo" and how not in ("lora", "full"):
        notes.append(_error("finetuningType", f"grpo trains lora or full, not {how}.", "Take lora."))
    if spec.get("quantization") and how not in ("lora", "qlora", "oft"):
        notes.append(
            _error(
                "quantization", f"A quantized model cannot be trained by {how}.", "Take finetuningType qlora or oft."
            )
        )
    if how == "full" and spec.get("adapter"):
        notes.append(_error("adapter", "An adapter cannot be trained in full.", "Export it merged, and train that."))
    return notes


def _grpo_notes(spec: dict[str, Any], arguments: dict[str, Any], allow_internal: bool) -> list[FieldNote]:
    if spec["stage"] != "grpo":
        given = [field for field in OF_GRPO if spec.get(field) is not None]
        return [_warning(field, f"{field} is for grpo alone; {spec['stage']} takes no note of it.") for field in given]
    notes = _reward_notes(spec.get("rewards"), allow_internal)
    for field, why in NOT_IN_GRPO.items():
        if spec.get(field):
            notes.append(_error(field, why, "Leave it out."))
    asked, taken = spec.get("gradientAccumulation", 1), arguments["gradient_accumulation_steps"]
    if taken != asked and "gradient_accumulation_steps" not in spec.get("advanced", {}):
        group = arguments["num_generations"]
        notes.append(
            _warning(
                "gradientAccumulation",
                f"It becomes {taken}: a step takes whole groups of {group} answers, batchSize of them at once.",
            )
        )
    if note := grpo_note(arguments):
        notes.append(note)
    return notes


def _reward_notes(given: Any, allow_internal: bool) -> list[FieldNote]:
    try:
        for number, choice in enumerate(read_choices(given)):
            if choice.endpoint is not None and not allow_internal:
                check_public(choice.endpoint, f"rewards[{number}].endpoint")
    except ValueError as error:
        field, _, rest = str(error).partition(": ")
        if rest and field.startswith("rewards"):
            return [_error(field, rest)]
        return [_error("rewards", str(error))]
    return []


def _data_notes(spec: dict[str, Any], inputs: list[DatasetInput]) -> list[FieldNote]:
    notes = []
    for dataset in inputs:
        try:
            check_form(spec["stage"], dataset)
        except BadConfig as error:
            notes.append(_error("dataset", error.message, error.hint))
    return [*notes, *_held_back(spec, inputs)]


def _held_back(spec: dict[str, Any], inputs: list[DatasetInput]) -> list[FieldNote]:
    share = spec.get("valSize")
    if not share or spec.get("evalDataset") or not inputs:
        return []
    rows = sum(min(one.rows, spec.get("maxSamples") or one.rows) for one in inputs)
    held = math.ceil(rows * share) if share <= 1 else int(share)
    if 1 <= held < rows:
        return []
    what = f"{held} of {rows} rows would be held back"
    return [_error("valSize", f"{what}, and none be left to train on.", "Give a share below 1, or fewer rows.")]


def _adapter_notes(spec: dict[str, Any], models: list[ModelInput]) -> list[FieldNote]:
    """An adapter fits the base that it was trained on and no other."""
    named = spec.get("adapter")
    adapter = next((one for one in models if one.named == named), None)
    if named is None or adapter is None or adapter.kind != ModelKind.adapter:
        return []
    model = next((one for one in models if one.named == spec["modelName"]), None)
    fits = _identity(adapter.base, adapter.base_name)
    asked = _identity(model, spec["modelName"])
    if fits in (None, asked):
        return []
    return [_error("adapter", f"{named!r} was trained on {fits}, not on {asked}.", f"Name {fits} as modelName.")]


def _identity(model: ModelInput | None, named: str | None) -> str | None:
    if model is None:
        return named
    return model.source or f"{model.name}@{model.version}"


def _device_notes(spec: dict[str, Any], device: estimate.Device) -> list[FieldNote]:
    if device.gpu:
        return []
    notes = []
    if spec.get("fsdp"):
        notes.append(_error("fsdp", "FSDP shards over GPUs; there is none here.", "Leave it out."))
    if spec.get("precision") == "fp16":
        notes.append(_warning("precision", "A CPU trains in 32 bits instead of fp16."))
    if spec.get("advanced", {}).get("fp8"):
        notes.append(_error("advanced.fp8", "fp8 needs a GPU; there is none here.", "Leave it out."))
    return notes


def _model_notes(spec: dict[str, Any], models: list[ModelInput]) -> list[FieldNote]:
    notes = []
    registered = {model.named: model for model in models}
    for field in ("modelName", "adapter", "refModel", "rewardModel"):
        named = spec.get(field)
        if named is None:
            continue
        model = registered.get(named)
        if model is not None and model.kind == ModelKind.gguf:
            notes.append(_error(field, f"Model {named!r} is GGUF, which cannot be trained.", "Name the one it is of."))
        if field == "adapter" and (model is None or model.kind != ModelKind.adapter):
            notes.append(_error(field, f"{named!r} is not a registered adapter.", "See GET /api/models?kind=adapter."))
        if model is None and named.startswith("builtin:") and named not in BUILTIN_MODELS:
            notes.append(_error(field, f"There is no {named!r}.", f"Built in are {' and '.join(BUILTIN_MODELS)}."))
        if model is None and not named.startswith(("builtin:", "/", "./")) and not HUB_ID.fullmatch(named):
            notes.append(_error(field, f"{named!r} names no model.", "A hub id looks like Qwen/Qwen3-0.6B."))
    model = registered.get(spec["modelName"])
    if spec.get("trustRemoteCode") and not (model is not None and model.trust_remote_code):
        notes.append(
            _error(
                "trustRemoteCode",
                "Code that a model brings is run only if an admin has allowed it for that model.",
                "An admin registers the model (POST /api/models) with trustRemoteCode true.",
            )
        )
    if spec["finetuningType"] == "full" and model is not None and model.kind == ModelKind.adapter:
        notes.append(_error("modelName", "An adapter cannot be trained in full.", "Export it merged, and train that."))
    return notes


def _other_notes(spec: dict[str, Any]) -> list[FieldNote]:
    notes = []
    for reporter in spec.get("reportTo") or []:
        package = REPORTERS.get(reporter)
        if package is None:
            notes.append(_error("reportTo", f"Nothing is known of {reporter!r}.", f"Known: {', '.join(REPORTERS)}."))
        elif importlib.util.find_spec(package) is None:
            notes.append(
                _error(
                    "reportTo", f"The training environment lacks the package {package}.", f"Install {package} there."
                )
            )
    if spec.get("earlyStoppingSteps") and not (spec.get("evalDataset") or spec.get("valSize")):
        notes.append(
            _error("earlyStoppingSteps", "Early stopping needs an evaluation.", "Give valSize or evalDataset.")
        )
    if spec.get("evalSteps") and not (spec.get("evalDataset") or spec.get("valSize")):
        notes.append(_error("evalSteps", "There is nothing to evaluate on.", "Give valSize or evalDataset."))
    if spec.get("freezeLayers") == 0:
        notes.append(_error("freezeLayers", "No layer would be trained.", "Give 2, or -2 for the first two."))
    if spec.get("schedule") == "reduce_lr_on_plateau" and not (spec.get("evalDataset") or spec.get("valSize")):
        notes.append(_error("schedule", "It heeds the evaluation's loss.", "Give valSize or evalDataset, or another."))
    if spec["stage"] in ("rm", "ppo") and spec.get("earlyStoppingSteps"):
        notes.append(_error("earlyStoppingSteps", f"Stage {spec['stage']} cannot go back to its best checkpoint."))
    if spec.get("neatPacking") and spec["stage"] != "sft":
        notes.append(_error("neatPacking", "Only sft packs neatly.", "Leave it out, or use packing."))
    return notes


def _size(spec: dict[str, Any], models: list[ModelInput], folder: Path) -> architecture.Size | None:
    named = spec["modelName"]
    model = next((one for one in models if one.named == named), None)
    while model is not None and model.kind == ModelKind.adapter:
        named, model = (model.base.source or "", model.base) if model.base else (model.base_name or "", None)
    if model is not None and model.source:
        named = model.source
    if named in architecture.BUILTIN:
        return architecture.BUILTIN[named]
    if model is not None and model.sha256:
        return architecture.of_folder(folder / "registry" / model.sha256)
    if named.startswith("/"):
        return architecture.of_folder(Path(named))
    cached = folder / "hub" / "huggingface" / f"models--{named.partition('@')[0].replace('/', '--')}" / "snapshots"
    return next((size for found in cached.glob("*") if (size := architecture.of_folder(found))), None)


def _estimate(
    spec: dict[str, Any], inputs: list[DatasetInput], models: list[ModelInput], device: estimate.Device, folder: Path
) -> Estimate:
    rows, data = sum(one.rows for one in inputs), sum(one.bytes for one in inputs)
    return estimate.estimate(spec, _size(spec, models, folder), rows, data, device, estimate.speeds(folder))


def _room_notes(
    spec: dict[str, Any],
    inputs: list[DatasetInput],
    models: list[ModelInput],
    device: estimate.Device,
    found: Estimate,
    folder: Path,
) -> list[FieldNote]:
    notes = []
    size = _size(spec, models, folder)
    if size is not None and found.memory_bytes is not None and found.memory_bytes > device.memory_bytes:
        rows, data = sum(one.rows for one in inputs), sum(one.bytes for one in inputs)
        would = estimate.fitting(spec, size, rows, data, device)
        notes.append(
            _error(
                "batchSize",
                f"The job needs about {found.memory_bytes / 1e9:.1f} GB of memory; {device.name} has"
                f" {device.memory_bytes / 1e9:.1f} GB.",
                f"It would fit with {would}." if would else "Take a smaller model.",
            )
        )
    if found.disk_bytes is not None:
        there = folder if folder.exists() else folder.parent if folder.parent.exists() else Path("/")
        free = shutil.disk_usage(there).free
        if found.disk_bytes > free:
            notes.append(
                _error(
                    "saveTotalLimit",
                    f"The job needs about {found.disk_bytes / 1e9:.1f} GB of disk; {free / 1e9:.1f} GB are free.",
                    "Free space, or keep fewer checkpoints.",
                )
            )
    if spec["modelName"].startswith("builtin:smollm2") and not builtin.is_made(folder, "smollm2-135m"):
        notes.append(
            FieldNote(level="warning", field="modelName", message="The model is made before training starts, once.")
        )
    return notes


def _error(field: str, message: str, hint: str | None = None) -> FieldNote:
    return FieldNote(level="error", field=field, message=message, hint=hint)


def _warning(field: str, message: str) -> FieldNote:
    return FieldNote(level="warning", field=field, message=message)
