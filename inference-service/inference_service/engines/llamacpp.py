"""The command by which llama.cpp's server starts."""

import json
import shutil
from collections.abc import Mapping
from typing import Any

from imts_shared.contracts.deployments import DeploymentReason, Engine
from imts_shared.contracts.engine_options import refused
from imts_shared.contracts.problems import FieldNote
from inference_service.engines.starting import Model, Place, Start
from inference_service.trouble import CannotServe

MISSING = CannotServe(
    DeploymentReason.engine_missing,
    "This worker has no llama-server, which serves GGUF.",
    "Install llama.cpp and set IMTS_LLAMA_SERVER to its llama-server, or deploy the model that the GGUF was made of.",
)


def binary(named: str) -> str | None:
    return shutil.which(named)


def checked(given: Mapping[str, Any]) -> list[FieldNote]:
    """What the program does not know of what is left it says when it starts."""
    return [note for name, value in given.items() if (note := refused(Engine.llamacpp, name, value)) is not None]


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
        flag = f"--{name.replace('_', '-')}"
        word = json.dumps(value) if isinstance(value, dict | list) else str(value)
        command += [flag] if value is True else [flag, word]
    return Start(command, {"CUDA_VISIBLE_DEVICES": ",".join(place.gpus)})
