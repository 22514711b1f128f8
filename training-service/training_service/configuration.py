"""From what a job asks for to what LLaMA-Factory and TRL are given. Pure: no framework is imported here."""

from math import gcd
from pathlib import Path
from typing import Any

from imts_shared.contracts.llamafactory import FIELDS, NAMED, OURS_ALONE

STAGES = {"simpo": "dpo", "orpo": "dpo"}
TYPES = {"qlora": "lora"}
SCHEDULES = {"cosine_with_min_lr": {"min_lr_rate": 0.1}}
"""What a schedule needs to be told."""

_TRANSLATED = frozenset(
    {
        "modelName",
        "stage",
        "finetuningType",
        "evalDataset",
        "loraTargets",
        "refModel",
        "rewardModel",
        "earlyStoppingSteps",
        "reportTo",
        "trustRemoteCode",
        "maxSamples",
        "evalSteps",
        "saveSteps",
        "saveTotalLimit",
        "gradientCheckpointing",
    }
)
_AS_THEY_ARE = {ours: theirs for ours, theirs in NAMED.items() if ours not in _TRANSLATED}


def arguments(spec: dict[str, Any], *, on_gpu: bool) -> dict[str, Any]:
    """Everything that follows from the job alone; files and folders are added by whoever has them."""
    found = {theirs: spec[ours] for ours, theirs in _AS_THEY_ARE.items() if spec.get(ours) is not None}
    found |= {
        "stage": STAGES.get(spec["stage"], spec["stage"]),
        "finetuning_type": TYPES.get(spec["finetuningType"], spec["finetuningType"]),
        "do_train": True,
        "report_to": spec.get("reportTo") or "none",
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
        "include_num_input_tokens_seen": "all",
        "use_cpu": not on_gpu,
        "save_safetensors": True,
        "plot_loss": False,
        "trust_remote_code": bool(spec.get("trustRemoteCode")),
    }
    for part in (_precision, _quantization, _targets, _preference, _evaluation, _saving, _parallel):
        found |= part(spec, on_gpu)
    if spec.get("gradientCheckpointing") is not None:
        found["disable_gradient_checkpointing"] = not spec["gradientCheckpointing"]
    if spec.get("schedule") in SCHEDULES:
        found["lr_scheduler_kwargs"] = SCHEDULES[spec["schedule"]]
    more = spec.get("advanced", {})
    found |= {name: value for name, value in more.items() if name not in OURS_ALONE and name not in FIELDS}
    return found | in_groups(spec, found) if spec["stage"] == "grpo" else found


GROUP_SIZE = 8
COMPLETION_LENGTH = 256


def in_groups(spec: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """For TRL's GRPO, whose rows are answers: a step takes all answers to a prompt, batchSize of them at once."""
    group = spec.get("groupSize") or GROUP_SIZE
    processes = spec.get("processes") or max(1, spec.get("gpus") or 1)
    batch = found["per_device_train_batch_size"] * processes
    evaluated = found.get("per_device_eval_batch_size", found["per_device_train_batch_size"])
    return {
        "num_generations": group,
        "gradient_accumulation_steps": of_whole_groups(found.get("gradient_accumulation_steps", 1), batch, group),
        "per_device_eval_batch_size": -(-evaluated // group) * group,
        "max_prompt_length": spec.get("cutoffLength", 2048),
        "max_completion_length": spec.get("maxCompletionLength") or COMPLETION_LENGTH,
        "temperature": spec.get("temperature") or 1.0,
        "beta": spec.get("prefBeta") or 0.0,
        "bf16": bool(found.get("bf16")),
        "gradient_checkpointing": spec.get("gradientCheckpointing") is not False,
        "include_num_input_tokens_seen": "no",
    }


def of_whole_groups(accumulation: int, batch: int, group: int) -> int:
    """The least gradient accumulation, from that asked for on, with which a step holds all answers to its prompts."""
    step = group // gcd(batch, group)
    return -(-accumulation // step) * step


def with_places(found: dict[str, Any], model: Path, output: Path, data: Path, train: list[str]) -> dict[str, Any]:
    return found | {
        "model_name_or_path": str(model),
        "output_dir": str(output),
        "dataset_dir": str(data),
        "dataset": ",".join(train),
        "overwrite_output_dir": True,
    }


def mixing(weights: list[float], advanced: dict[str, Any]) -> dict[str, Any]:
    """Rows are drawn in proportion to the weights; without any, data sets stand one behind the other."""
    if len(weights) < 2 or "mix_strategy" in advanced or len(set(weights)) == 1:
        return {}
    total = sum(weights)
    return {
        "mix_strategy": "interleave_over",
        "interleave_probs": ",".join(f"{weight / total:.6g}" for weight in weights),
    }


def _precision(spec: dict[str, Any], on_gpu: bool) -> dict[str, Any]:
    match spec.get("precision", "auto"):
        case "bf16":
            return {"bf16": True}
        case "fp16":
            return {"fp16": True}
        case "pure_bf16":
            return {"pure_bf16": True}
        case "auto" if on_gpu:
            return {"bf16": True}
    return {}


def _quantization(spec: dict[str, Any], _on_gpu: bool) -> dict[str, Any]:
    asked = spec.get("quantization") or (4 if spec["finetuningType"] == "qlora" else None)
    if asked is None:
        return {}
    if isinstance(asked, int):
        asked = {"bits": asked}
    return {
        "quantization_bit": asked.get("bits", 4),
        "quantization_method": asked.get("method", "bnb"),
        "quantization_type": asked.get("type", "nf4"),
        "double_quantization": asked.get("double", True),
    }


def _targets(spec: dict[str, Any], _on_gpu: bool) -> dict[str, Any]:
    targets = spec.get("loraTargets")
    if targets is None:
        return {}
    joined = targets if isinstance(targets, str) else ",".join(targets)
    return {"oft_target" if spec["finetuningType"] == "oft" else "lora_target": joined}


def _preference(spec: dict[str, Any], _on_gpu: bool) -> dict[str, Any]:
    return {"pref_loss": spec["stage"]} if spec["stage"] in STAGES else {}


def _evaluation(spec: dict[str, Any], _on_gpu: bool) -> dict[str, Any]:
    evaluates = bool(spec.get("evalDataset") or spec.get("valSize"))
    steps = spec.get("evalSteps")
    found: dict[str, Any] = {}
    if evaluates:
        found["eval_strategy"] = "steps" if steps else "epoch"
        found["do_eval"] = False
        if steps:
            found["eval_steps"] = steps
    if spec.get("earlyStoppingSteps"):
        found |= {
            "early_stopping_steps": spec["earlyStoppingSteps"],
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return found


def _saving(spec: dict[str, Any], _on_gpu: bool) -> dict[str, Any]:
    """Whether and when; the callback adds checkpoints by time. On the worker's disk only what is still needed stays."""
    if spec.get("earlyStoppingSteps"):
        steps = spec.get("evalSteps")
        return {
            "save_strategy": "steps" if steps else "epoch",
            "save_total_limit": 2,
            **({"save_steps": steps} if steps else {}),
        }
    if spec.get("saveSteps"):
        return {"save_strategy": "steps", "save_steps": spec["saveSteps"], "save_total_limit": 1}
    return {"save_strategy": "no", "save_total_limit": 1}


def _parallel(spec: dict[str, Any], _on_gpu: bool) -> dict[str, Any]:
    asked = spec.get("deepspeed")
    if asked is None:
        return {}
    return {"deepspeed": asked if isinstance(asked, dict) else zero(asked)}


def zero(stage: str) -> dict[str, Any]:
    """A DeepSpeed configuration whose numbers the trainer fills in."""
    number, _, offload = stage.partition("-")
    found: dict[str, Any] = {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
        "fp16": {"enabled": "auto"},
        "bf16": {"enabled": "auto"},
        "zero_optimization": {"stage": int(number), "overlap_comm": number != "0", "contiguous_gradients": True},
    }
    if number == "3":
        found["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True
    if offload:
        found["zero_optimization"]["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if number == "3":
            found["zero_optimization"]["offload_param"] = {"device": "cpu", "pin_memory": True}
    return found
