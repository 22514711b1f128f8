"""Answers to a few prompts before and after training: what a loss cannot show."""

from pathlib import Path
from typing import Any

import orjson

from imts_shared.worker.engine import EngineJob

LONGEST_ANSWER = 96
LONGEST_SHOWN = 4_000


class Samples:
    """Prompts out of the data (their expected answers beside them) or the asker's own."""

    def __init__(self, job: EngineJob, data: Path, first: str, template: str | None) -> None:
        self._job = job
        self._template = template
        self._rows = _rows(job.spec.get("samples"), data / f"{first}.jsonl")
        self.found: list[dict[str, Any]] = [
            {
                "prompt": row["conversations"][-1]["value"][:LONGEST_SHOWN],
                **({"expected": row["expected"]} if row["expected"] else {}),
            }
            for row in self._rows
        ]

    def answer(self, when: str, model: Any, tokenizer: Any) -> None:
        """`when` is `before` or `after`. A wrapped model (several processes) is asked in its own right."""
        if not self._rows:
            return
        model = getattr(model, "module", model)
        for row, found in zip(self._rows, self.found, strict=True):
            self._job.obey()
            found[when] = _generate(model, tokenizer, _prompt(row, tokenizer, self._template))[:LONGEST_SHOWN]
        told = "; ".join(f"{one['prompt'][:120]!r} -> {one[when][:200]!r}" for one in self.found)
        self._job.message(f"Answers {when} training: {told}")


def _rows(asked: int | list[str] | None, data: Path) -> list[dict[str, Any]]:
    if not asked:
        return []
    if isinstance(asked, list):
        return [
            {"conversations": [{"from": "human", "value": text}], "system": "", "tools": "", "expected": ""}
            for text in asked
        ]
    rows = []
    with data.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            turns = row.get("conversations", [])
            if len(turns) >= 1 and turns[-1]["from"] in ("gpt", "function_call") and len(turns) >= 2:
                rows.append({**row, "conversations": turns[:-1], "expected": turns[-1]["value"]})
            if len(rows) == asked:
                break
    return rows


def _prompt(row: dict[str, Any], tokenizer: Any, template: str | None) -> list[int]:
    """Just what training shows the model of such a row, up to where its answer begins."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    form = get_template_and_fix_tokenizer(tokenizer, DataArguments(template=template))
    roles = {"human": "user", "gpt": "assistant", "function_call": "function", "observation": "observation"}
    messages = [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    messages.append({"role": "assistant", "content": ""})
    ids: list[int] = form.encode_oneturn(tokenizer, messages, row["system"] or None, row["tools"] or None)[0]
    return ids


def _generate(model: Any, tokenizer: Any, ids: list[int]) -> str:
    import torch

    training = model.training
    model.eval()
    cached = model.config.use_cache
    model.config.use_cache = True
    try:
        with torch.no_grad():
            given = torch.tensor([ids], device=model.device)
            out = model.generate(
                input_ids=given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=LONGEST_ANSWER,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
    finally:
        model.config.use_cache = cached
        model.train(training)
    text: str = tokenizer.decode(out[0][len(ids) :], skip_special_tokens=True)
    return text.strip()
