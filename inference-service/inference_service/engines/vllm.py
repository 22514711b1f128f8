"""The command by which vLLM starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imts_shared.contracts.deployments import DeploymentReason
from inference_service.engines import families
from inference_service.engines.arguments import Options
from inference_service.engines.starting import Model, Place, Start
from inference_service.trouble import CannotServe

PLUGIN = Path(__file__).with_name("plugin")
SERVER = "vllm.entrypoints.openai.api_server"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
USUAL_RANK = 64
USUAL_LORAS = 4
MOST_LORAS_KEPT = 64
DEFAULTS: Mapping[str, Any] = {"disable_uvicorn_access_log": True}
CPU_DEFAULTS: Mapping[str, Any] = {"enforce_eager": True, "max_num_seqs": 64, "max_model_len": "auto"}
"""Compiling takes minutes on a few cores; and a model whose context is longer than the cache serves what fits."""


def check(options: Options, given: Mapping[str, Any]) -> None:
    faults = options.checked(given)
    if faults:
        raise CannotServe(DeploymentReason.bad_arguments, faults[0].message, faults[0].hint or "Change engineArgs.")


def start(
    python: Path, options: Options, model: Model, place: Place, given: Mapping[str, Any], lora: int | None
) -> Start:
    """Of arguments that were checked. `lora`: the largest rank that an adapter may have; None where none can be."""
    if not place.gpus and not options.for_cpu:
        raise CannotServe(
            DeploymentReason.engine_missing,
            f"The vLLM of this worker (version {options.version}) computes on GPUs alone.",
            "Give `gpu` 1 or more; or deploy a GGUF file, which llama.cpp serves on a CPU.",
        )
    on_cpu = {} if place.gpus else CPU_DEFAULTS
    chosen = {**_parsers(model.path, place, given), **_size(place, given), **DEFAULTS, **on_cpu}
    chosen = {name: value for name, value in chosen.items() if options.knows(name) and name not in given}
    arguments = {**chosen, **given}
    if lora is not None:
        arguments.setdefault("max_lora_rank", lora)
        arguments.setdefault("max_loras", USUAL_LORAS)
        arguments.setdefault("max_cpu_loras", max(MOST_LORAS_KEPT, _whole(arguments["max_loras"])))
    command = [
        *(str(python), "-m", SERVER),
        *("--model", str(model.path), "--served-model-name", place.name),
        *("--host", place.host, "--port", str(place.port)),
        *(["--enable-lora"] if lora is not None else []),
        *(["--trust-remote-code"] if model.trust_remote_code else []),
        *options.command(arguments),
    ]
    environment = _environment(place)
    if lora is not None and not place.gpus and not options.switched_off("enforce_eager", arguments):
        environment["PYTHONPATH"] = str(PLUGIN)
    return Start(command, environment)


def rank_for(wanted: int) -> int:
    """The smallest size that vLLM has for adapters of this rank."""
    return next((rank for rank in RANKS if rank >= max(wanted, USUAL_RANK)), RANKS[-1])


def _whole(value: Any) -> int:
    return int(float(value))


def _parsers(folder: Path, place: Place, given: Mapping[str, Any]) -> dict[str, Any]:
    fits = families.family(folder)
    chosen: dict[str, Any] = {}
    if fits.tool_parser:
        chosen |= {
            "enable_auto_tool_choice": True,
            "tool_call_parser": fits.tool_parser,
            "tool_strict_level": "parameter",  # the arguments of a call always fit the function's schema
        }
    if fits.reasoning_parser:
        chosen["reasoning_parser"] = fits.reasoning_parser
    if fits.tools_template and "chat_template" not in given:
        template = place.folder / "chat_template.jinja"
        template.write_text(families.with_tools(families.chat_template(folder), fits.tools_template))
        chosen["chat_template"] = str(template)
    return chosen


def _size(place: Place, given: Mapping[str, Any]) -> dict[str, Any]:
    """One engine over all GPUs of the replica, split as the user says or tensor-parallel."""
    count = len(place.gpus)
    if count == 0:
        return {}
    named = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    if not any(name in given for name in named):
        return {"tensor_parallel_size": count} if count > 1 else {}
    product = 1
    for name in named:
        product *= _whole(given.get(name) or 1)
    if product != count:
        raise CannotServe(
            DeploymentReason.bad_arguments,
            f"{' times '.join(named)} is {product}, and the replica has {count} GPUs.",
            "Give `gpu` the product of the three.",
        )
    return {}


def _environment(place: Place) -> dict[str, str]:
    told = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_HOST_IP": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": ",".join(place.gpus),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    if not place.gpus:
        told["VLLM_CPU_KVCACHE_SPACE"] = str(place.cache_gb)
        if not place.alone:
            told["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
            told["OMP_NUM_THREADS"] = str(place.cores)
    return told
