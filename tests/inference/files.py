"""Files of models and adapters, written by hand: their format is simple, and the tests need no framework for it."""

import json
import random
import struct
from array import array
from pathlib import Path
from typing import Any

from imts_shared.storage import Storage
from imts_shared.worker import checkpoints


def safetensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Small random numbers of those shapes."""
    draw = random.Random(7)
    header: dict[str, Any] = {}
    content = bytearray()
    for name, shape in shapes.items():
        count = 1
        for size in shape:
            count *= size
        block = array("f", (draw.uniform(-0.05, 0.05) for _ in range(count))).tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(content), len(content) + len(block)]}
        content += block
    told = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(told)) + told + content)


def model(folder: Path, shapes: dict[str, tuple[int, ...]], **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["L"], **config}))
    safetensors(folder / "model.safetensors", shapes)
    return folder


def lora(folder: Path, rank: int, hidden: int, out: int, layers: int = 2, module: str = "self_attn.q_proj") -> Path:
    folder.mkdir(parents=True)
    name = module.rpartition(".")[2]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": [name], "bias": "none",
              "task_type": "CAUSAL_LM", "base_model_name_or_path": "base"}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        at = f"base_model.model.model.layers.{layer}.{module}"
        shapes |= {f"{at}.lora_A.weight": (rank, hidden), f"{at}.lora_B.weight": (out, rank)}
    safetensors(folder / "adapter_model.safetensors", shapes)
    return folder


def store(home: Path, folder: Path, prefix: str) -> None:
    """As a job stores what it has made."""
    checkpoints.store(Storage(f"file://{home}/storage"), folder, prefix)


def registered(name: str, prefix: str) -> dict[str, Any]:
    """An adapter as the control plane names it to the worker."""
    of = {"named": name, "id": f"id-{prefix}", "name": name, "version": 1, "kind": "adapter", "prefix": prefix}
    return {"name": name, "model": {"named": name, "registered": of}}
