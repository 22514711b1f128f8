"""The command by which llama.cpp's server starts."""

import difflib
import json
import shutil
from collections.abc import Mapping
from typing import Any

from imts_shared.contracts.deployments import DeploymentReason
from inference_service.engines.arguments import Note, is_option
from inference_service.engines.starting import Model, Place, Start
from inference_service.trouble import CannotServe

MISSING = CannotServe(
    DeploymentReason.engine_missing,
    "This worker has no llama-server, which serves GGUF.",
    "Install llama.cpp and set IMTS_LLAMA_SERVER to its llama-server, or deploy the model that the GGUF was made of.",
)
TAKEN = frozenset(
    """
    batch_size cache_prompt cache_ram cache_reuse cache_type_k cache_type_v chat_template chat_template_kwargs
    cont_batching context_shift cpu_moe cpu_strict ctx_checkpoints ctx_size defrag_thold dry_allowed_length
    dry_base dry_multiplier dry_penalty_last_n dynatemp_exp dynatemp_range embd_normalize embedding embeddings
    fit flash_attn frequency_penalty gpu_layers ignore_eos jinja keep kv_offload kv_unified log_verbosity
    logit_bias main_gpu min_p mirostat mirostat_ent mirostat_lr mlock mmap n_cpu_moe n_gpu_layers n_predict
    no_cache_prompt no_cont_batching no_context_shift no_jinja no_kv_offload no_mmap no_op_offload no_perf
    no_prefill_assistant no_repack no_slots no_warmup numa op_offload override_kv parallel perf poll pooling
    predict prefill_assistant presence_penalty prio reasoning_budget reasoning_format repack repeat_last_n
    repeat_penalty rerank reranking rope_freq_base rope_freq_scale rope_scale rope_scaling sampler_seq samplers
    sampling_seq seed slot_prompt_similarity slots special split_mode spm_infill swa_full temp temperature
    tensor_split threads threads_batch threads_http timeout top_k top_n_sigma top_p typical typical_p
    ubatch_size verbose verbosity warmup yarn_attn_factor yarn_beta_fast yarn_beta_slow yarn_ext_factor
    yarn_orig_ctx
    """.split()  # noqa: SIM905
)
"""Options of llama-server that neither name files, code, models and machines nor are the platform's own, by their long
names. What the program does not know of them it says when it starts."""


def binary(named: str) -> str | None:
    return shutil.which(named)


def checked(given: Mapping[str, Any]) -> list[Note]:
    """What can be said without the program, which names what else it does not know when it starts."""
    return [_fault(name) for name in given if name not in TAKEN] + [
        Note(f"engineArgs.{name}", f"{name} must not begin with a dash.", "Give its value.")
        for name, value in given.items()
        if name in TAKEN and is_option(value)
    ]


def _fault(name: str) -> Note:
    near = difflib.get_close_matches(name, TAKEN, 1, 0.75)
    return Note(
        f"engineArgs.{name}",
        f"{name} is none of llama-server's options, is the platform's own, or would reach files of the worker.",
        f"Did you mean {near[0]}?" if near else "Leave it out.",
    )


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
