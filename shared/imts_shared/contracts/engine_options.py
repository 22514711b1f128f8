"""Which of an engine's own options a deployment may give: by their names and parts, whoever asks.

The control plane refuses by it before a deployment is stored, with or without a worker; the worker again before it
starts an engine, under the names that the engine's own parser knows an option by.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from imts_shared.contracts.deployments import Engine
from imts_shared.contracts.problems import FieldNote

OURS = {
    "model": "the deployment's model decides it",
    "model_tag": "the deployment's model decides it",
    "served_model_name": "the deployment's name decides it",
    "host": "engines listen for the gateway alone",
    "port": "the deployment's port decides it",
    "uds": "engines listen for the gateway alone",
    "api_key": "the gateway looks after keys",
    "enable_lora": "adapters are always welcome where the model can have them",
    "lora_modules": "the deployment's adapters decide it",
    "trust_remote_code": "an admin allows it at the model: PATCH /api/models/{id}",
    "api_server_count": "a deployment has replicas instead",
    "disable_log_stats": "the deployment's metrics come of it",
    "grpc": "engines answer by HTTP",
    "headless": "each replica is reached by itself",
    "device_ids": "the deployment's gpu decides how many, and the worker which",
    "hf_token": "a project's hub tokens are set with `imts tokens set`",
    "root_path": "engines listen for the gateway alone",
}
"""Options that the platform sets, and where to say it instead."""
RUNS_OR_READS = frozenset(
    {
        "additional_config",
        "allowed_local_media_path",
        "config",
        "config_format",
        "data_parallel_address",
        "data_parallel_backend",
        "data_parallel_external_lb",
        "data_parallel_hybrid_lb",
        "data_parallel_rank",
        "data_parallel_rpc_port",
        "data_parallel_start_rank",
        "data_parallel_supervisor_port",
        "default_mm_loras",
        "distributed_executor_backend",
        "download_dir",
        "generation_config",
        "grpc_port",
        "hf_config_path",
        "ec_transfer_config",
        "io_processor_plugin",
        "kv_events_config",
        "kv_transfer_config",
        "load_format",
        "log_config_file",
        "logging_config",
        "logits_processors",
        "master_addr",
        "master_port",
        "middleware",
        "mm_encoder_fp8_scale_path",
        "mm_encoder_fp8_scale_save_path",
        "model_class_overrides",
        "model_loader_extra_config",
        "nnodes",
        "node_rank",
        "otlp_traces_endpoint",
        "profiler_config",
        "ray_workers_use_nsight",
        "reasoning_parser_plugin",
        "scheduler_cls",
        "spec_model",
        "ssl_ca_certs",
        "ssl_certfile",
        "ssl_keyfile",
        "tokenizer",
        "tool_parser_plugin",
        "tool_server",
        "trust_request_mm_kwargs",
        "weight_transfer_config",
        "worker_cls",
        "worker_extension_cls",
    }
)
"""They name code to run, files to read, or other machines."""
PARTS: Mapping[str, frozenset[str] | None] = {
    "allowed_headers": None,
    "allowed_methods": None,
    "allowed_origins": None,
    "compilation_config": frozenset(
        {
            "compile_sizes",
            "cudagraph_capture_sizes",
            "cudagraph_mode",
            "cudagraph_num_of_warmups",
            "custom_ops",
            "level",
            "max_cudagraph_capture_size",
            "mode",
            "use_inductor",
        }
    ),
    "custom_histogram_buckets": None,
    "default_chat_template_kwargs": None,
    "eplb_config": frozenset(
        {"log_balancedness", "num_redundant_experts", "step_interval", "use_async", "window_size"}
    ),
    "hf_overrides": frozenset(
        {
            "max_position_embeddings",
            "num_experts_per_tok",
            "original_max_position_embeddings",
            "rope_parameters",
            "rope_scaling",
            "rope_theta",
        }
    ),
    "limit_mm_per_prompt": None,
    "override_generation_config": None,
    "pooler_config": frozenset(
        {
            "dimensions",
            "enable_chunked_processing",
            "max_embed_len",
            "normalize",
            "pooling_type",
            "seq_pooling_type",
            "tok_pooling_type",
            "use_activation",
        }
    ),
    "speculative_config": frozenset({"method", "num_speculative_tokens", "prompt_lookup_max", "prompt_lookup_min"}),
    "structured_outputs_config": frozenset(
        {
            "backend",
            "disable_additional_properties",
            "disable_any_whitespace",
            "disable_fallback",
            "enable_in_reasoning",
            "reasoning_parser",
        }
    ),
}
"""Options that are objects, with the parts that are taken; None: all. Others name code, files or models in theirs."""
LLAMACPP = frozenset(
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


def refused(engine: Engine, name: str, value: Any, known_as: str | None = None) -> FieldNote | None:
    """Why an option is not taken, None where nothing but the engine itself could object. `known_as` is its name without
    parts, where it was given by another."""
    if engine == Engine.llamacpp:
        return _refused_llamacpp(name, value)
    base, _, inner = name.partition(".")
    own = known_as or base
    if own in OURS:
        return _note(name, f"{name} is the platform's own: {OURS[own]}.", "Leave it out.")
    if own in RUNS_OR_READS:
        return _note(name, f"{name} would run code or read files of the worker, so it is not taken.", "Leave it out.")
    return _refused_parts(name, own, inner, value)


def _refused_parts(name: str, own: str, inner: str, value: Any) -> FieldNote | None:
    taken = PARTS.get(own)
    if taken is None or value is None:
        return None
    given = {inner.partition(".")[0]} if inner else _keys(value)
    if given is None:
        return _note(name, f"{name} must be an object, not {shown(value)}.", f"Its parts may be {_listed(taken)}.")
    wrong = _listed(given - taken)
    return _note(name, f"{name} is not taken with {wrong}.", f"Its parts may be {_listed(taken)}.") if wrong else None


def _keys(value: Any) -> set[str] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return set(value) if isinstance(value, dict) else None


def _refused_llamacpp(name: str, value: Any) -> FieldNote | None:
    if name not in LLAMACPP:
        near = difflib.get_close_matches(name, LLAMACPP, 1, 0.75)
        return _note(
            name,
            f"{name} is none of llama-server's options, is the platform's own, or would reach files of the worker.",
            f"Did you mean {near[0]}?" if near else "Leave it out.",
        )
    return _note(name, f"{name} must not begin with a dash.", "Give its value.") if is_option(value) else None


def is_option(value: Any) -> bool:
    """A value that a command's parser would take for the next option."""
    return isinstance(value, str) and value.startswith("-") and not _is_number(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:79] + "…"


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(map(str, names)))


def _note(name: str, message: str, hint: str) -> FieldNote:
    return FieldNote(level="error", field=f"engineArgs.{name}", message=message, hint=hint)
