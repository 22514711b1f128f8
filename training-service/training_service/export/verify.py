"""An export is proved by loading it and using it. What is not proved is not stored."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imts_shared.contracts.jobs import ExportRequest
from imts_shared.worker.engine import BadConfig, EngineFailure, EngineJob
from training_service.export import children
from training_service.export.gguf import NATIVE, has_llama_cpp
from training_service.export.merge import TOLERANCE, Whole, divergence, said

GGUF_TOLERANCE = {
    "f32": 0.02, "f16": 0.02, "bf16": 0.02, "q8_0": 0.05, "q6_k": 0.2, "q5_k_m": 0.4, "q5_k_s": 0.4, "q4_k_m": 0.8,
    "q4_k_s": 0.8, "q3_k_l": 1.5, "q3_k_m": 1.5, "q3_k_s": 2.0, "q2_k": 3.0,
}  # fmt: skip
"""Mean KL divergence, in nats, of the file's next tokens from its source's."""
WEIGHT_TOLERANCE = {
    "F32": 0.005, "F16": 0.005, "BF16": 0.005, "Q8_0": 0.015, "Q6_K": 0.04, "Q5_0": 0.08, "Q5_1": 0.08, "Q5_K": 0.08,
    "Q4_0": 0.15, "Q4_1": 0.15, "Q4_K": 0.15, "IQ4_NL": 0.15, "Q3_K": 0.3, "Q2_K": 0.5,
}  # fmt: skip
"""Root mean square error of a tensor, relative to the tensor's own."""
COMPARABLE = ("llama", "qwen2", "qwen3")
"""Architectures whose tensors the converter stores as they are, or with rows in another known order."""
SAMPLED = 1_000_000
PLACES = 12
"""Beginnings of the prompt after which llama.cpp is asked for the next token."""
PROBABILITIES = 500
SHAPE = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
"""What a file says of its architecture, and what the model's configuration calls it."""


def merged(whole: Whole, asked: ExportRequest) -> dict[str, Any]:
    """Loads what was saved, compares what it says, and lets it write."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"trust_remote_code": whole.trust_remote_code, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(whole.folder, **options)
    model = AutoModelForCausalLM.from_pretrained(whole.folder, dtype="auto", **options).eval()
    ids = list(tokenizer(whole.text, add_special_tokens=not whole.templated)["input_ids"])
    _same_tokens(ids, whole.ids)
    figures = _compared(whole.logits, said(model, ids), TOLERANCE.get(whole.dtype, 0.02))
    return {"by": "transformers", **figures, **_written(model, tokenizer, ids, asked)}


def _written(model: Any, tokenizer: Any, ids: list[int], asked: ExportRequest) -> dict[str, Any]:
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        answer = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=asked.answer_tokens,
            do_sample=False, temperature=None, top_p=None, top_k=None,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        )[0, len(ids) :]  # fmt: skip
    text = tokenizer.decode(answer, skip_special_tokens=True)
    return {"prompt": asked.prompt, "answer": text, "answerTokens": int(answer.shape[0])}


def _same_tokens(given: list[int], expected: list[int]) -> None:
    if given != expected:
        raise EngineFailure("The exported tokenizer reads the prompt differently from the model's own.")


def _compared(expected: np.ndarray[Any, Any], given: np.ndarray[Any, Any], tolerance: float) -> dict[str, Any]:
    if not np.isfinite(given).all():
        raise EngineFailure("The exported model says nothing finite.", "Export with dtype bf16 or fp32.")
    size = min(expected.shape[1], given.shape[1])
    same = expected[:, :size].argmax(axis=1) == given[:, :size].argmax(axis=1)
    return _within(divergence(expected, given), tolerance, same.tolist())


def _within(kl: float, tolerance: float, same: list[bool]) -> dict[str, Any]:
    if not kl <= tolerance:
        raise EngineFailure(
            f"The exported model is not the one that it was made from: its next tokens are {kl:.4g} nats away, and"
            f" {tolerance} are allowed.",
            "Nothing was registered. Export with a wider dtype or quantization.",
        )
    return {
        "kl": round(kl, 8), "tolerance": tolerance, "positions": len(same),
        "sameNextToken": round(sum(same) / len(same), 4),
    }  # fmt: skip


def gguf(job: EngineJob, file: Path, whole: Whole, asked: ExportRequest) -> dict[str, Any]:
    """By llama.cpp itself; else by the loader that transformers has for some architectures. Always by its tensors."""
    found: dict[str, Any] = {"weights": weights(file, whole, asked.quantization or "q8_0")}
    job.obey()
    used = _by_llama_cpp(job, file, whole, asked) if has_llama_cpp() else _by_transformers(file, whole, asked)
    return {**used, **found}


def _by_llama_cpp(job: EngineJob, file: Path, whole: Whole, asked: ExportRequest) -> dict[str, Any]:
    answer = job.scratch / "used.json"
    places = sorted({int(place) for place in np.linspace(0, len(whole.ids) - 1, PLACES)})
    order = {
        "do": "use", "model": str(file), "text": whole.text, "ids": whole.ids, "places": places,
        "most": asked.answer_tokens, "probabilities": PROBABILITIES, "answer": str(answer),
    }  # fmt: skip
    ended = children.run(job, [sys.executable, "-P", NATIVE, json.dumps(order)], "use")
    if ended.code and ended.has("ImportError"):
        job.message(f"llama.cpp does not run on this worker ({ended.last}); transformers checks the file instead.")
        return _by_transformers(file, whole, asked)
    if ended.code:
        raise EngineFailure(f"llama.cpp cannot use the file: {ended.last}", "Its last lines are in the job's log.")
    used = json.loads(answer.read_text())
    if whole.templated and used["promptTokens"] != len(whole.ids):
        raise EngineFailure(
            f"llama.cpp reads the prompt as {used['promptTokens']} tokens, the model's own tokenizer as"
            f" {len(whole.ids)}."
        )
    distances, same = [], []
    for place, told in zip(places, used["next"], strict=True):
        given = {int(token): float(value) for token, value in told.items()}
        distances.append(_of_the_likeliest(whole.logits[place], given))
        same.append(int(whole.logits[place].argmax()) == max(given, key=lambda token: given[token]))
    return {
        "by": used["version"],
        "prompt": asked.prompt,
        "answer": used["answer"],
        "answerTokens": used["answerTokens"],
        **_within(float(np.mean(distances)), GGUF_TOLERANCE[asked.quantization or "q8_0"], same),
    }


def _of_the_likeliest(logits: np.ndarray[Any, Any], given: dict[int, float]) -> float:
    """KL divergence over the tokens that were told, with all others as one."""
    high = logits.astype(np.float64) - logits.max()
    expected = np.exp(high) / np.exp(high).sum()
    told = [token for token in given if token < len(expected)]
    wanted = expected[told]
    got = np.exp([given[token] for token in told])
    pairs = [*zip(wanted, got, strict=True), (1 - wanted.sum(), 1 - got.sum())]
    return float(sum(p * np.log(p / max(q, 1e-12)) for p, q in pairs if p > 1e-12))


def _by_transformers(file: Path, whole: Whole, asked: ExportRequest) -> dict[str, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    arch = _reader(file).fields["general.architecture"].contents()
    if arch not in GGUF_CONFIG_MAPPING:
        raise BadConfig(
            f"Nothing on this worker can load a GGUF file of architecture {arch}, so it cannot be proved to work.",
            "Install the wheel xllamacpp with the other GGUF tools (locks/gguf-tools.txt).",
        )
    tokenizer = AutoTokenizer.from_pretrained(whole.folder, local_files_only=True)
    config = AutoConfig.from_pretrained(whole.folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, config=config, dtype=torch.float32
    ).eval()
    tolerance = GGUF_TOLERANCE[asked.quantization or "q8_0"]
    figures = _compared(whole.logits, said(model, whole.ids), tolerance)
    return {"by": "transformers", **_written(model, tokenizer, whole.ids, asked), **figures}


def _reader(file: Path) -> Any:
    from gguf import GGUFReader

    return GGUFReader(str(file))


def weights(file: Path, whole: Whole, quantization: str) -> dict[str, Any]:
    """Every tensor finite, and close to the one that it was made from; the file of the type that was asked for."""
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, LlamaFileType, get_tensor_name_map
    from gguf.quants import dequantize

    reader = _reader(file)
    arch = reader.fields["general.architecture"].contents()
    config = json.loads((whole.folder / "config.json").read_text())
    kinds = (f"ALL_{quantization.upper()}", f"MOSTLY_{quantization.upper()}")
    stated = LlamaFileType(reader.fields["general.file_type"].contents())
    if stated.name not in kinds:
        raise EngineFailure(f"The file is {stated.name.lower()}, not {quantization}.")
    if arch in COMPARABLE:
        _same_shape(reader, arch, config)
    names: dict[str, str] = {}
    if arch in COMPARABLE:
        kind = next(one for one in MODEL_ARCH if MODEL_ARCH_NAMES[one] == arch)
        map_ = get_tensor_name_map(kind, config["num_hidden_layers"])
        names = {map_.get_name(name, (".weight", ".bias")) or "": name for name in _where(whole.folder)}
    where = _where(whole.folder)
    worst, worst_of, compared = 0.0, "", 0
    types: dict[str, int] = {}
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] = types.get(tensor.tensor_type.name, 0) + 1
        rows = _rows(tensor.data)
        values = dequantize(tensor.data[rows], tensor.tensor_type)
        if not np.isfinite(values).all():
            raise EngineFailure(f"The file's tensor {tensor.name} holds NaN or infinity.")
        name = names.get(tensor.name)
        if name is None:
            continue
        source = _source(where[name], name, config if arch == "llama" else None)[rows]
        compared += 1
        error = _error(source, values)
        if error > WEIGHT_TOLERANCE.get(tensor.tensor_type.name, 0.5):
            raise EngineFailure(f"The file's tensor {tensor.name} is not {name}: it is {error:.1%} off.")
        if error > worst:
            worst, worst_of = error, tensor.name
    return {
        "tensors": len(reader.tensors), "compared": compared, "types": types, "worstError": round(worst, 6),
        "worstTensor": worst_of or None,
    }  # fmt: skip


def _same_shape(reader: Any, arch: str, config: dict[str, Any]) -> None:
    for theirs, ours in SHAPE.items():
        stated, expected = reader.fields.get(f"{arch}.{theirs}"), config.get(ours)
        if stated is None or expected is None:
            continue
        value = stated.contents()
        if not np.isclose(value, expected, rtol=1e-5, atol=0):
            raise EngineFailure(f"The file says {theirs} {value}, the model's configuration {ours} {expected}.")


def _rows(data: Any) -> Any:
    """All rows of a small tensor, some of a large one."""
    if data.ndim < 2:
        return slice(None)
    return slice(None, None, max(1, data.size // SAMPLED))


def _error(source: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> float:
    if source.shape != values.shape:
        return float("inf")
    size = float(np.sqrt(np.mean(np.square(source, dtype=np.float64))))
    off = float(np.sqrt(np.mean(np.square(source.astype(np.float64) - values))))
    return off / size if size else off


def _where(folder: Path) -> dict[str, Path]:
    from safetensors import safe_open

    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found.update(dict.fromkeys(file.keys(), path))
    return found


def _source(path: Path, name: str, permuted: dict[str, Any] | None) -> np.ndarray[Any, Any]:
    """`permuted`: the configuration of a llama, whose queries and keys GGUF holds with their rows in another order."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        values: np.ndarray[Any, Any] = file.get_tensor(name).float().numpy()
    if permuted is not None and ".q_proj." in name:
        return _reordered(values, permuted["num_attention_heads"])
    if permuted is not None and ".k_proj." in name:
        return _reordered(values, permuted.get("num_key_value_heads") or permuted["num_attention_heads"])
    return values


def _reordered(values: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    parts = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return parts.swapaxes(1, 2).reshape(values.shape)
