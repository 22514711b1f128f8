"""From a base and the adapters that stand on it to one whole model."""

import gc
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from imts_shared.contracts.jobs import ExportRequest
from imts_shared.worker.engine import BadConfig, EngineFailure, EngineJob
from training_service.models.finding import Found

DTYPES: dict[str, Any] = {"auto": "auto", "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
TOLERANCE = {"fp32": 1e-4, "bf16": 0.02, "fp16": 0.02}
"""Mean KL divergence, in nats, of the whole model's next tokens from those of the base with its adapters."""
PADDED_TO = 64
"""LLaMA-Factory grows an embedding to a multiple of this."""


class Stepping(Protocol):
    def begin(self, text: str) -> None: ...


@dataclass
class Whole:
    """A whole model in a folder, and what it says to the prompt."""

    folder: Path
    text: str
    """The prompt as the model is given it."""
    templated: bool
    ids: list[int]
    logits: np.ndarray[Any, Any]
    """After each token of the prompt, from the base with its adapters."""
    architecture: str
    parameters: int
    context_length: int | None
    dtype: str
    trust_remote_code: bool
    merging: dict[str, Any] = field(default_factory=dict)


def check(found: Found, named: str) -> None:
    """What cannot be exported, said before anything is loaded."""
    for folder in (found.folder, *found.adapters):
        if any(folder.glob("value_head*")) and "| Stage | ppo |" not in _own_card(folder):
            raise BadConfig(
                f"{named} is a reward model: it gives a number (by its value head), not text; neither form holds that.",
                "It judges answers, and writes none: export the model that it judges.",
            )
    config = json.loads((found.folder / "config.json").read_text())
    method = (config.get("quantization_config") or {}).get("quant_method")
    if method:
        raise BadConfig(
            f"The weights of {named} are quantized already ({method}); an export starts from whole weights.",
            "Train on, or name, the model that they were made from.",
        )
    if not any(name.endswith(("CausalLM", "LMHeadModel")) for name in config.get("architectures") or ["CausalLM"]):
        kinds = ", ".join(config["architectures"])
        raise BadConfig(f"{named} is no causal language model ({kinds}).", "Name a model that writes text.")


def _own_card(folder: Path) -> str:
    card = folder / "README.md"
    return card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""


def merged(job: EngineJob, found: Found, asked: ExportRequest, steps: Stepping, target: Path | None) -> Whole:
    """Writes the whole model to `target`; without one, it lies whole where it is."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    steps.begin(f"Loading {found.base_name or asked.model_name}.")
    model = AutoModelForCausalLM.from_pretrained(
        found.folder, dtype=DTYPES[asked.dtype], trust_remote_code=found.trust_remote_code, local_files_only=True
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(
        _with_tokenizer(found), trust_remote_code=found.trust_remote_code, local_files_only=True
    )
    text, templated, ids = rendered(tokenizer, asked.prompt)
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and len(ids) + asked.answer_tokens > room:
        raise BadConfig(f"`prompt` is {len(ids)} tokens long; the model has room for {room}.", "Shorten it.")
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=PADDED_TO)
    dtype = NAMES.get(model.dtype, str(model.dtype).removeprefix("torch."))
    logits = said(model, ids)
    merging: dict[str, Any] = {}
    if found.adapters:
        alone = logits
        for number, adapter in enumerate(found.adapters, 1):
            steps.begin(f"Merging adapter {number} of {len(found.adapters)}.")
            with_adapter = PeftModel.from_pretrained(model, adapter, local_files_only=True).eval()
            logits = said(with_adapter, ids)
            model = with_adapter.merge_and_unload(safe_merge=True)
        after = said(model, ids)
        merging = {
            "adapters": len(found.adapters),
            "kl": round(divergence(logits, after), 8),
            "tolerance": TOLERANCE.get(dtype, 0.02),
            "largestLogitDifference": round(float(np.abs(logits - after).max()), 6),
            "klFromBase": round(divergence(alone, logits), 6),
        }
        if not merging["kl"] <= merging["tolerance"]:
            raise EngineFailure(
                f"Merging changed the model: its next tokens are {merging['kl']:.4g} nats from those of the base with"
                f" its adapters, and {merging['tolerance']} are allowed.",
                "Export with dtype fp32.",
            )
    model.config._name_or_path = ""
    whole = Whole(
        folder=target or found.folder,
        text=text,
        templated=templated,
        ids=ids,
        logits=logits,
        architecture=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        context_length=room,
        dtype=dtype,
        trust_remote_code=found.trust_remote_code,
        merging=merging,
    )
    if target is not None:
        steps.begin("Saving the whole model.")
        _mend_sampling(model.generation_config)
        model.save_pretrained(target, safe_serialization=True, max_shard_size=f"{asked.max_shard_gb}GB")
        tokenizer.save_pretrained(target)
    del model
    gc.collect()
    return whole


def _mend_sampling(config: Any) -> None:
    """Saving refuses sampling figures beside greedy decoding, which some published models have."""
    if not config.do_sample and any(
        getattr(config, name, None) is not None for name in ("temperature", "top_p", "top_k", "min_p")
    ):
        try:
            config.validate(strict=True)
        except (TypeError, ValueError):
            config.do_sample = True


def _with_tokenizer(found: Found) -> Path:
    """Training stores the tokenizer with its adapter, with the chat template that it was trained with."""
    for folder in reversed(found.adapters):
        if (folder / "tokenizer_config.json").is_file():
            return folder
    return found.folder


def rendered(tokenizer: Any, prompt: str) -> tuple[str, bool, list[int]]:
    """The prompt as a user's message, where the model has a chat template."""
    if not tokenizer.chat_template:
        return prompt, False, list(tokenizer(prompt)["input_ids"])
    messages = [{"role": "user", "content": prompt}]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        raise BadConfig(
            f"The model's chat template cannot be applied: {error}.", "Mend the template in its tokenizer's files."
        ) from error
    return text, True, list(tokenizer(text, add_special_tokens=False)["input_ids"])


def said(model: Any, ids: list[int]) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
    found: np.ndarray[Any, Any] = logits.float().cpu().numpy()
    if not np.isfinite(found).all():
        raise EngineFailure(
            "The model says nothing finite: its weights hold NaN or overflow.", "Export with dtype bf16 or fp32."
        )
    return found


def divergence(expected: np.ndarray[Any, Any], given: np.ndarray[Any, Any]) -> float:
    """Mean over the positions of KL(expected || given), in nats."""
    size = min(expected.shape[1], given.shape[1])
    wanted, got = _log_softmax(expected[:, :size]), _log_softmax(given[:, :size])
    return float(np.maximum((np.exp(wanted) * (wanted - got)).sum(axis=1), 0).mean())


def _log_softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    high = logits.astype(np.float64)
    high -= high.max(axis=1, keepdims=True)
    found: np.ndarray[Any, Any] = high - np.log(np.exp(high).sum(axis=1, keepdims=True))
    return found
