"""pt, sft, rm, dpo, simpo, orpo and kto, by LLaMA-Factory."""

from pathlib import Path
from typing import Any

from imts_shared.worker.engine import EngineJob
from training_service.trainers import mend
from training_service.watching import Watch


def train(_job: EngineJob, arguments: dict[str, Any], watch: Watch, _output: Path) -> None:
    from llamafactory.train.tuner import run_exp

    mend(arguments.get("resume_from_checkpoint"))
    run_exp(arguments, callbacks=[watch])
