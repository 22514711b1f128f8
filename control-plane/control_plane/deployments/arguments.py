"""Which of an engine's own options a deployment may give."""

import re
from typing import Any

from control_plane.problems import Refusal
from imts_shared.contracts.deployments import Engine

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")

_OURS = "The platform sets it."
_FIELD = "The deployment has a field for it: {}."
_CODE = "It would run code from outside the platform on the worker."
_FILES = "It would open the worker's own files or network."
_HUBS = "A project's hub tokens are set with `imts tokens set`: they do not belong into engineArgs."

_BOTH = {
    "host": _OURS,
    "port": _FIELD.format("port"),
    "model": _FIELD.format("model"),
    "api_key": _OURS,
    "root_path": _OURS,
    "ssl_keyfile": _OURS,
    "ssl_certfile": _OURS,
    "ssl_ca_certs": _OURS,
}
REFUSED: dict[Engine, dict[str, str]] = {
    Engine.vllm: {
        **_BOTH,
        "model_tag": _FIELD.format("model"),
        "served_model_name": _FIELD.format("name"),
        "enable_lora": _FIELD.format("adapters"),
        "lora_modules": _FIELD.format("adapters"),
        "uds": _OURS,
        "headless": _OURS,
        "api_server_count": _OURS,
        "config": _OURS,
        "download_dir": _OURS,
        "hf_token": _HUBS,
        "trust_remote_code": "An admin allows it for the model: PATCH /api/models/{model} {trustRemoteCode: true}.",
        "middleware": _CODE,
        "tool_parser_plugin": _CODE,
        "reasoning_parser_plugin": _CODE,
        "logits_processors": _CODE,
        "logits_processor_pattern": _CODE,
        "worker_cls": _CODE,
        "worker_extension_cls": _CODE,
        "scheduler_cls": _CODE,
        "kv_transfer_config": _CODE,
        "allowed_local_media_path": _FILES,
        "log_config_file": _FILES,
        "profiler_config": _FILES,
        "otlp_traces_endpoint": _FILES,
        "master_addr": _FILES,
        "data_parallel_address": _FILES,
    },
    Engine.llamacpp: {
        **_BOTH,
        "m": _FIELD.format("model"),
        "alias": _FIELD.format("name"),
        "a": _FIELD.format("name"),
        "api_key_file": _OURS,
        "ssl_key_file": _OURS,
        "ssl_cert_file": _OURS,
        "lora": _FIELD.format("adapters"),
        "lora_scaled": _FIELD.format("adapters"),
        "model_url": _FIELD.format("model"),
        "mu": _FIELD.format("model"),
        "hf_repo": _FIELD.format("model"),
        "hf_file": _FIELD.format("model"),
        "hf_token": _HUBS,
        "path": _FILES,
        "slot_save_path": _FILES,
        "log_file": _FILES,
        "media_path": _FILES,
        "rpc": _FILES,
    },
}


def check_arguments(engine: Engine, arguments: dict[str, Any]) -> None:
    """What the engine itself knows of its options is the inference worker's to check."""
    for name in arguments:
        if _NAME.fullmatch(name) is None:
            raise Refusal(
                422, "bad_arguments", f"{name[:100]!r} is no name of an option.", field="engineArgs",
                hint="Give options by name, such as max_model_len: 4096.",
            )  # fmt: skip
        why = REFUSED[engine].get(name.partition(".")[0].lower())
        if why is not None:
            raise Refusal(
                422, "bad_arguments", f"engineArgs cannot set {name!r}.", field=f"engineArgs.{name}", hint=why
            )
