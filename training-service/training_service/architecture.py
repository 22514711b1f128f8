"""How large a model is, from its configuration alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Size:
    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    linear: int
    """Parameters in the layers' own matrices: what work and adapters scale with."""
    widths: int
    """Inputs and outputs of those matrices added up: a LoRA of rank r has r times as many parameters."""


BUILTIN = {
    "builtin:smollm2-135m": Size(134_515_008, 30, 576, 49_152, 106_168_320, 305_280),
    "builtin:tiny-qwen3": Size(3_219_776, 2, 64, 49_152, 73_728, 2_048),
}


def of_folder(folder: Path) -> Size | None:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    return of_config(config)


def of_config(config: dict[str, Any]) -> Size | None:
    """For decoders of the usual kind; experts of a mixture count all."""
    config = config.get("text_config", config)
    try:
        hidden, layers, vocabulary = config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]
        between = config.get("intermediate_size") or 4 * hidden
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or hidden // heads
        shared = config.get("num_key_value_heads") or heads
        experts = config.get("num_experts") or config.get("num_local_experts") or 1
        if experts > 1:
            between = config.get("moe_intermediate_size") or between
    except (KeyError, TypeError, ZeroDivisionError):
        return None
    asking, keeping = heads * head, shared * head
    attention = hidden * asking * 2 + hidden * keeping * 2
    feeding = 3 * hidden * between * experts
    linear = layers * (attention + feeding)
    widths = layers * (2 * (hidden + asking) + 2 * (hidden + keeping) + 3 * (hidden + between) * experts)
    tied = config.get("tie_word_embeddings", True)
    parameters = linear + vocabulary * hidden * (1 if tied else 2) + hidden * (2 * layers + 1)
    return Size(parameters, layers, hidden, vocabulary, linear, widths)
