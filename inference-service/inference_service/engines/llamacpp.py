"""The command by which llama.cpp's server starts."""

import shutil
from collections.abc import Mapping
from typing import Any

from imts_shared.contracts.deployments import DeploymentReason
from inference_service.engines.arguments import Note
from inference_service.engines.starting import Model, Place, Start
from inference_service.trouble import CannotServe

MISSING = CannotServe(
    DeploymentReason.engine_missing,
    "This worker has no llama-server, which serves GGUF.",
    "Install llama.cpp and set IMTS_LLAMA_SERVER to its llama-server, or deploy the model that the GGUF was made of.",
)
OURS = ("model", "m", "host", "port", "alias", "api_key", "api_key_file", "hf_repo", "model_url", "metrics", "path",
        "log_file", "ssl_key_file", "ssl_cert_file", "lora", "lora_scaled", "slot_save_path", "chat_template_file",
        "grammar_file", "json_schema_file", "mmproj", "mmproj_url", "control_vector", "rpc")  # fmt: skip
"""The platform's own, or files of the worker."""


def binary(named: str) -> str | None:
    return shutil.which(named)


def checked(given: Mapping[str, Any]) -> list[Note]:
    """What can be said without the program, which names what else it does not know when it starts."""
    return [
        Note(f"engineArgs.{name}", f"{name} is the platform's own, or would read files of the worker.", "Leave it out.")
        for name in given
        if name in OURS
    ]


def start(named: str, model: Model, place: Place, given: Mapping[str, Any]) -> Start:
    program = binary(named)
    if program is None:
        raise MISSING
    faults = checked(given)
    if faults:
        raise CannotServe(DeploymentReason.bad_arguments, faults[0].message, faults[0].hint)
    command = [
        *(program, "--model", str(model.path), "--alias", place.name),
        *("--host", place.host, "--port", str(place.port), "--metrics", "--jinja"),
        *(["--n-gpu-layers", "999"] if place.gpus and "n_gpu_layers" not in given else []),
    ]
    for name, value in given.items():
        if value is False or value is None:
            continue
        flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
        command += [flag] if value is True else [flag, str(value)]
    return Start(command, {"CUDA_VISIBLE_DEVICES": ",".join(place.gpus)})
