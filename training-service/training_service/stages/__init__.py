"""The ways to train: each takes a job with its model and data ready, and leaves a model in a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imts_shared.worker.engine import EngineJob

if TYPE_CHECKING:
    from training_service.watching import Watch

Train = Callable[[EngineJob, dict[str, Any], "Watch", Path], None]


def trainer(stage: str) -> Train:
    if stage == "grpo":
        from training_service.stages import grpo

        return grpo.train
    from training_service.stages import llamafactory

    return llamafactory.train
