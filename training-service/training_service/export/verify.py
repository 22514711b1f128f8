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
    kl = divergence(expected, given)
    if not kl <= tolerance:
        raise EngineFailure(
            f"The exported model is not the one that it was made from: its next tokens are {kl:.4g} nats away, and"
            f" {tolerance} are allowed.",
            "Nothing was registered. Export with a wider dtype or quantization.",
        )
    size = min(expected.shape[1], given.shape[1])
    same = expected[:, :size].argmax(axis=1) == given[:, :size].argmax(axis=1)
    return {"kl": round(kl, 8), "tolerance": tolerance, "positions": len(same), "sameNextToken": float(same.mean())}


def gguf(job: EngineJob, file: Path, whole: Whole, asked: ExportRequest) -> dict[str, Any]:
    """By llama.cpp itself; else by the loader that transformers has for some architectures. Always by its tensors."""
    quantization = asked.quantization or "q8_0"
    found: dict[str, Any] = {"weights": weights(file, whole)}
    job.obey()
    used = _by_llama_cpp(job, file, whole, asked) if has_llama_cpp() else None
    if used is None:
        used = _by_transformers(file, whole, asked)
    logits = used.pop("logits")
    return {**used, **_compared(whole.logits, logits, GGUF_TOLERANCE[quantization]), **found}


def _by_llama_cpp(job: EngineJob, file: Path, whole: Whole, asked: ExportRequest) -> dict[str, Any] | None:
    """None where llama.cpp does not run on this machine at all."""
    answer, logits = job.scratch / "used.json", job.scratch / "used.npy"
    order = {
        "do": "use", "model": str(file), "text": whole.text, "special": not whole.templated, "ids": whole.ids,
        "most": asked.answer_tokens, "answer": str(answer), "logits": str(logits),
    }  # fmt: skip
    ended = children.run(job, [sys.executable, "-P", NATIVE, json.dumps(order)], "use")
    if ended.code and ended.has("Failed to load llama.cpp library"):
        job.message("llama.cpp does not run on this worker; transformers checks the file instead.")
        return None
    if ended.code:
        raise EngineFailure(f"llama.cpp cannot use the file: {ended.last}", "Its last lines are in the job's log.")
    used = json.loads(answer.read_text())
    if "problem" in used:
        job.log("\n".join(ended.lines[-children.TAIL :]))
        raise EngineFailure(
            f"The file does not work: {used['problem']}.", "llama.cpp's last lines are in the job's log."
        )
    _same_tokens(used["ids"], whole.ids)
    return {
        "by": used["version"],
        "prompt": asked.prompt,
        "answer": used["answer"],
        "answerTokens": len(used["written"]),
        "logits": np.load(logits),
    }


def _by_transformers(file: Path, whole: Whole, asked: ExportRequest) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    arch = _reader(file).fields["general.architecture"].contents()
    if arch not in GGUF_CONFIG_MAPPING:
        raise BadConfig(
            f"Nothing on this worker can load a GGUF file of architecture {arch}, so it cannot be proved to work.",
            "Install the wheel llama-cpp-py-sync with the other GGUF tools (locks/gguf-tools.txt).",
        )
    tokenizer = AutoTokenizer.from_pretrained(whole.folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    written = _written(model, tokenizer, whole.ids, asked)
    return {"by": "transformers", **written, "logits": said(model, whole.ids)}


def _reader(file: Path) -> Any:
    from gguf import GGUFReader

    return GGUFReader(str(file))


def weights(file: Path, whole: Whole) -> dict[str, Any]:
    """Every tensor finite, and close to the one that it was made from."""
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map
    from gguf.quants import dequantize

    reader = _reader(file)
    arch = reader.fields["general.architecture"].contents()
    config = json.loads((whole.folder / "config.json").read_text())
    length = reader.fields[f"{arch}.context_length"].contents()
    if whole.context_length is not None and length != whole.context_length:
        raise EngineFailure(f"The file's context length is {length}, the model's {whole.context_length}.")
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
