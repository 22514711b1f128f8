"""LLaMA-Factory's argument names and ours, both ways."""

import re
from typing import Any

NAMED = {
    "modelName": "model_name_or_path",
    "stage": "stage",
    "finetuningType": "finetuning_type",
    "batchSize": "per_device_train_batch_size",
    "learningRate": "learning_rate",
    "epochs": "num_train_epochs",
    "maxSteps": "max_steps",
    "maxSamples": "max_samples",
    "template": "template",
    "cutoffLength": "cutoff_len",
    "packing": "packing",
    "neatPacking": "neat_packing",
    "evalDataset": "eval_dataset",
    "valSize": "val_size",
    "evalSteps": "eval_steps",
    "evalBatchSize": "per_device_eval_batch_size",
    "loraRank": "lora_rank",
    "loraAlpha": "lora_alpha",
    "loraDropout": "lora_dropout",
    "loraTargets": "lora_target",
    "freezeLayers": "freeze_trainable_layers",
    "gradientAccumulation": "gradient_accumulation_steps",
    "schedule": "lr_scheduler_type",
    "warmupRatio": "warmup_ratio",
    "warmupSteps": "warmup_steps",
    "optimizer": "optim",
    "weightDecay": "weight_decay",
    "maxGradNorm": "max_grad_norm",
    "seed": "seed",
    "gradientCheckpointing": "gradient_checkpointing",
    "prefBeta": "pref_beta",
    "prefLoss": "pref_loss",
    "refModel": "ref_model",
    "rewardModel": "reward_model",
    "loggingSteps": "logging_steps",
    "saveSteps": "save_steps",
    "saveTotalLimit": "save_total_limit",
    "earlyStoppingSteps": "early_stopping_steps",
    "reportTo": "report_to",
    "fsdp": "fsdp",
    "trustRemoteCode": "trust_remote_code",
}
"""Fields that mean the same under both names."""

OURS_ALONE = {
    "output_dir": "the platform gives every attempt a folder of its own",
    "logging_dir": "the platform gives every attempt a folder of its own",
    "overwrite_output_dir": "every attempt writes into a new folder",
    "dataset_dir": "data sets come from the platform",
    "resume_from_checkpoint": "the platform resumes from the newest checkpoint by itself",
    "do_train": "a training job trains",
    "plot_loss": "the platform draws the loss",
    "overwrite_cache": "the platform keeps no cache between jobs",
    "tokenized_path": "the platform keeps no cache between jobs",
    "use_ray": "`launcher: ray` does this",
    "hf_hub_token": "hub tokens are kept by the project",
    "ms_hub_token": "hub tokens are kept by the project",
    "om_hub_token": "hub tokens are kept by the project",
    "hub_token": "hub tokens are kept by the project",
    "push_to_hub": "models are kept by the registry",
    "push_to_hub_token": "hub tokens are kept by the project",
    "cache_dir": "the platform keeps what it downloads",
    "media_dir": "data sets come from the platform",
    "local_rank": "the launcher sets it",
    "disable_tqdm": "progress is reported as events",
    "save_only_model": "a checkpoint without the optimizer cannot be resumed from",
    "eval_strategy": "`evalSteps` says when",
    "save_strategy": "`saveSteps` and `saveMinutes` say when",
    "logging_strategy": "`loggingSteps` says when",
    "save_safetensors": "models are saved as safetensors alone",
    "ray_run_name": "`launcher: ray` does this",
    "ray_num_workers": "`processes` says how many",
    "ray_storage_path": "checkpoints lie in the platform's storage",
    "resources_per_worker": "`gpus` says how many",
    "placement_strategy": "`launcher: ray` does this",
    "ray_init_kwargs": "`launcher: ray` does this",
    "ray_scope": "`launcher: ray` does this",
    "master_addr": "the launcher sets it",
    "master_port": "the launcher sets it",
    "use_cpu": "`gpus: 0` says it",
    "no_cuda": "`gpus: 0` says it",
    "use_mps_device": "training runs on GPUs of NVIDIA's or on the CPU",
    "per_gpu_train_batch_size": "`batchSize` says it",
    "per_gpu_eval_batch_size": "`evalBatchSize` says it",
    "create_new_adapter": "an adapter as `modelName` gets a new one on top, `adapter` is trained on",
    "adapter_folder": "models come from the registry",
    "ref_model_adapters": "`refModel` may be an adapter",
    "reward_model_adapters": "models come from the registry",
    "model_revision": "`modelName` may end with @revision",
    "generation_config": "it comes with the model",
    "new_special_tokens_config": "a job reads no files but its models and data",
    "offload_folder": "the platform gives every attempt a folder of its own",
    "profiler_output_dir": "the platform gives every attempt a folder of its own",
    "hyper_parallel_args": "a job reads no files but its models and data",
    "kt_weight_path": "a job reads no files but its models and data",
    "kt_expert_checkpoint_path": "a job reads no files but its models and data",
    "export_dir": "an export job exports",
    "export_hub_model_id": "models are kept by the registry",
    "export_quantization_dataset": "an export job exports",
    "hub_model_id": "models are kept by the registry",
    "hub_revision": "models are kept by the registry",
    "hub_strategy": "models are kept by the registry",
    "hub_always_push": "models are kept by the registry",
    "push_to_hub_model_id": "models are kept by the registry",
    "push_to_hub_organization": "models are kept by the registry",
    "swanlab_api_key": "trackers' keys are tokens of the project",
    "swanlab_lark_secret": "trackers' keys are tokens of the project",
    "swanlab_lark_webhook_url": "the platform has webhooks of its own",
    "swanlab_logdir": "the platform gives every attempt a folder of its own",
    "trackio_space_id": "`reportTo` chooses trackers",
    "streaming": "data sets are read whole",
    "buffer_size": "data sets are read whole",
    "ignore_data_skip": "a resumed run goes on with the row that comes next",
    "restore_callback_states_from_checkpoint": "the platform resumes by itself",
    "logging_nan_inf_filter": "a loss that is no number ends the job",
    "include_num_input_tokens_seen": "tokens are counted",
    "save_on_each_node": "checkpoints lie in the platform's storage",
    "preprocessing_num_workers": "rows are prepared by the process that trains",
    "data_shared_file_system": "every attempt has a folder of its own",
}
"""Arguments that the platform sets itself, and why. Those that name files, models or code are among them: whoever may
submit a job may not read what else lies on a worker."""

OBJECTS_ALONE = frozenset({"accelerator_config", "fsdp_config"})
"""Arguments that LLaMA-Factory would read from a file, were they text."""

HARMLESS = frozenset(
    {
        "do_train",
        "plot_loss",
        "overwrite_cache",
        "overwrite_output_dir",
        "disable_tqdm",
        "save_safetensors",
        "logging_strategy",
        "eval_strategy",
        "save_strategy",
        "save_only_model",
        "resume_from_checkpoint",
        "preprocessing_num_workers",
        "data_shared_file_system",
    }
)
"""Of these, the ones that a request may hold without harm: they are left out with a word."""


def looks_like_llamafactory(given: Any) -> bool:
    return isinstance(given, dict) and "model_name_or_path" in given


def request_from_llamafactory(given: dict[str, Any]) -> dict[str, Any]:
    """A LLaMA-Factory configuration as a request. What has no field of its own goes to `advanced`; what the platform
    sets itself is left out."""
    request: dict[str, Any] = {}
    advanced: dict[str, Any] = dict(given.get("advanced") or {})
    for name, value in given.items():
        if name in _UNSAID or value is None:
            continue
        if name in _OWN:
            _OWN[name](request, value)
        elif name in FIELDS:
            request[FIELDS[name]] = _number(value)
        elif name in OURS_ALONE:
            continue
        elif name in _ENVELOPE or name in _OF_ONE_WORD or name != name.lower():
            request[name] = value
        else:
            advanced[name] = _number(value)
    if given.get("use_ray") is True:
        request |= {"launcher": "ray", "processes": given.get("ray_num_workers") or 1}
    if request.get("quantization") and request.get("finetuningType") == "lora":
        request["finetuningType"] = "qlora"
    if advanced:
        request["advanced"] = advanced
    return request


_UNSAID = frozenset({"advanced", "trust_remote_code"})
"""Configurations say trust_remote_code for models that bring no code; here an admin allows it and `trustRemoteCode`
says it."""

_ENVELOPE = frozenset(
    {"name", "project", "priority", "labels", "max_attempts", "timeout_seconds", "gpus", "processes", "launcher"}
)

_OF_ONE_WORD = frozenset(
    {"epochs", "samples", "schedule", "precision", "quantization", "adapter", "optimizer", "rewards"}
)
"""Fields of ours that somebody adds to a configuration, and that LLaMA-Factory has no argument of."""


def _number(value: Any) -> Any:
    """YAML reads 1e-4 as text; LLaMA-Factory's own reader takes it for the number that it is."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _names(field: str) -> Any:
    def set_names(request: dict[str, Any], value: Any) -> None:
        names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        request[field] = names[0] if isinstance(names, list) and len(names) == 1 else names

    return set_names


def _precision(name: str) -> Any:
    def set_precision(request: dict[str, Any], value: Any) -> None:
        if value is True:
            request["precision"] = name

    return set_precision


_OWN = {
    "dataset": _names("dataset"),
    "eval_dataset": _names("evalDataset"),
    "bf16": _precision("bf16"),
    "fp16": _precision("fp16"),
    "pure_bf16": _precision("pure_bf16"),
}

FIELDS = {theirs: ours for ours, theirs in NAMED.items()} | {
    "dataset": "dataset",
    "quantization_bit": "quantization",
    "bf16": "precision",
    "fp16": "precision",
    "pure_bf16": "precision",
    "adapter_name_or_path": "adapter",
    "deepspeed": "deepspeed",
}
"""The field of ours that each of LLaMA-Factory's arguments has. `advanced` takes none of them: what is checked and kept
of a job would not be what runs."""
