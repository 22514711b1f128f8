"""pt, sft, rm, dpo, simpo, orpo and kto, by LLaMA-Factory."""

from pathlib import Path
from typing import Any

from training_service.watching import Watch, let_evaluations_be_abandoned


def train(arguments: dict[str, Any], watch: Watch, output: Path) -> Path:
    from llamafactory.train.tuner import run_exp

    let_evaluations_be_abandoned()
    run_exp(arguments, callbacks=[watch])
    return output
