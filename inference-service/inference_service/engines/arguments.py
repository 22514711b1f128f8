"""An engine's own options as people give them: checked by what the engine's parser takes, and made into its command."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
        "hf_token",
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
TRUE, FALSE = ("true", "on", "yes", "1"), ("false", "off", "no", "0")


@dataclass(frozen=True)
class Note:
    field: str
    message: str
    hint: str | None = None
    level: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class Option:
    flag: str
    kind: str
    several: bool = False
    choices: tuple[str, ...] | None = None


class Options:
    """What one installed engine takes; `known` is what its parser was dumped as."""

    def __init__(self, known: Mapping[str, Mapping[str, Any]], version: str, *, for_cpu: bool = True) -> None:
        self.version = version
        self.for_cpu = for_cpu
        self._options: dict[str, Option] = {}
        self._names: dict[str, str] = {}
        for name, one in known.items():
            choices = tuple(one["choices"]) if one.get("choices") else None
            self._options[name] = Option(one["flag"], one["type"], bool(one.get("several")), choices)
            self._names |= dict.fromkeys([name, *one["names"]], name)

    def knows(self, name: str) -> bool:
        return name in self._names

    def switched_off(self, name: str, given: Mapping[str, Any]) -> bool:
        return not _truth(given.get(name, False))

    def checked(self, given: Mapping[str, Any]) -> list[Note]:
        return [note for name, value in given.items() if (note := self._fault(name, value)) is not None]

    def command(self, given: Mapping[str, Any]) -> list[str]:
        """Of options that were checked. None leaves the engine its own choice."""
        words: list[str] = []
        for name, value in given.items():
            if value is None:
                continue
            base, _, inner = name.partition(".")
            option = self._options[self._names[base]]
            if option.kind == "switch":
                words.append(option.flag if _truth(value) else f"--no-{option.flag.removeprefix('--')}")
            elif option.several and isinstance(value, list):
                words += [option.flag, *map(_word, value)]
            elif inner:
                words.append(f"{option.flag}.{inner}={_word(value)}")
            else:
                words.append(f"{option.flag}={_word(value)}")
        return words

    def _fault(self, name: str, value: Any) -> Note | None:
        field = f"engineArgs.{name}"
        base, _, inner = name.partition(".")
        own = self._names.get(base, base)
        if own in OURS:
            return Note(field, f"{name} is the platform's own: {OURS[own]}.", "Leave it out.")
        if own in RUNS_OR_READS:
            return Note(field, f"{name} would run code or read files of the worker, so it is not taken.")
        option = self._options.get(own)
        if option is None:
            near = difflib.get_close_matches(base, self._names, 1, 0.6)
            hint = f"Did you mean {near[0]}?" if near else "The engine's own manual lists its options."
            return Note(field, f"The engine (version {self.version}) has no option {name}.", hint)
        if value is None:
            return None
        if inner and option.kind not in _STRUCTURED:
            return Note(field, f"{base} has no parts, so there is no {name}.")
        wrong = None if inner else _mistake(own, option, value)
        if wrong is not None:
            return Note(field, f"{name} {wrong}, not {_shown(value)}.")
        return _refused_parts(field, own, inner, value) if option.kind in _STRUCTURED else None


def _refused_parts(field: str, name: str, inner: str, value: Any) -> Note | None:
    if name not in PARTS:
        return Note(field, f"{name} can name code to run or files of the worker, so it is not taken.")
    taken = PARTS[name]
    if taken is None:
        return None
    content = json.loads(value) if isinstance(value, str) and not inner else value
    if inner:
        given = {inner.partition(".")[0]}
    elif isinstance(content, dict):
        given = set(content)
    else:
        return Note(field, f"{name} must be an object, not {_shown(value)}.")
    refused = sorted(given - taken)
    if not refused:
        return None
    return Note(
        field,
        f"{name} is not taken with {', '.join(map(str, refused))}.",
        f"Its parts may be {', '.join(sorted(taken))}.",
    )


def _mistake(name: str, option: Option, value: Any) -> str | None:
    if isinstance(value, list) and not (option.several or option.kind in _STRUCTURED):
        return "takes one value"
    values = value if isinstance(value, list) and option.several else [value]
    for one in values:
        if isinstance(value, list) and is_option(one):
            return "must not begin with a dash"
        if option.choices is not None and _word(one) not in option.choices:
            return f"must be one of {', '.join(option.choices)}"
        wrong = _wrong_kind(option.kind, one)
        if wrong is not None:
            return wrong
    if name == "chat_template" and "{" not in str(value):
        return "must be the template itself: a file of the worker is not read"
    return None


def _wrong_kind(kind: str, value: Any) -> str | None:
    if kind == "switch":
        return None if isinstance(value, bool) or str(value).lower() in (*TRUE, *FALSE) else "must be true or false"
    if kind == "int":
        return None if _is_number(value, int) else "must be a whole number"
    if kind == "float":
        return None if _is_number(value, float) else "must be a number"
    if kind.startswith("human_readable_int"):
        text = str(value).strip().lower()
        automatic = kind.endswith("_or_auto") and text in ("auto", "-1")
        readable = _is_number(text.rstrip("kmgt") if text[-1:].isalpha() else value, float)
        return (
            None if automatic or (readable and not isinstance(value, bool)) else "must be a whole number, or such as 4k"
        )
    if kind in _STRUCTURED:
        return None if _is_structured(value) else "must be an object"
    if isinstance(value, dict):
        return "must be text"
    return None


_STRUCTURED = ("parse_dataclass", "loads", "_parse_type", "union_dict_and_str")


def _is_structured(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, dict | list)
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


def _is_number(value: Any, kind: type[int] | type[float]) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return kind(value) == float(value)
    except (TypeError, ValueError, OverflowError):
        return False


def is_option(value: Any) -> bool:
    """A value that a command's parser would take for the next option."""
    return isinstance(value, str) and value.startswith("-") and not _is_number(value, float)


def _truth(value: Any) -> bool:
    return value is True or str(value).lower() in TRUE


def _word(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:79] + "…"
