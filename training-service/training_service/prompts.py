"""Rows as prompts: what a model is shown before it answers by itself, and what its answer is judged by."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from imts_shared.worker.engine import BadData
from training_service.rewards.choice import answer_columns, row_problem
from training_service.rows import Row

ROLES = {"human": "user", "gpt": "assistant", "function_call": "function", "observation": "observation"}
ASKING, ANSWERING = frozenset({"human", "observation"}), frozenset({"gpt", "function_call"})


def problem(row: Row) -> str | None:
    """Why a canonical row cannot be learned from by rewards."""
    turns = row["conversations"]
    if not turns:
        return "It asks nothing."
    for number, turn in enumerate(turns):
        if turn["from"] not in (ANSWERING if number % 2 else ASKING):
            return f"Turn {number + 1} is by {turn['from']!r}; questions and answers take turns, a question first."
    return row_problem(row)


def examples(file: Path, named: str, template: Any, tokenizer: Any) -> Iterator[dict[str, Any]]:
    """Of each row the prompt, as text and as tokens, and the columns that rewards read."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            row = orjson.loads(line)
            try:
                tokens = prompt_tokens(row, template, tokenizer)
            except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
                raise BadData(
                    f"Row {number} of {named!r} cannot be written as its template wants: {str(error)[:300]}",
                    "Mend the row's function calls or tools and upload the file again.",
                ) from error
            judged = answer_columns(row if len(row["conversations"]) % 2 == 0 else {**row, "conversations": []})
            yield {"prompt": tokenizer.decode(tokens), "prompt_tokens": tokens, **judged}


def prompt_tokens(row: Row, template: Any, tokenizer: Any) -> list[int]:
    """All that stands before the last answer, token for token as supervised training shows it."""
    turns = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    if len(turns) % 2:
        turns.append({"role": "assistant", "content": ""})
    *earlier, (asked, _) = template.encode_multiturn(tokenizer, turns, row["system"], row["tools"])
    return [*chain.from_iterable(chain(*pair) for pair in earlier), *asked]
