"""The training service's settings."""

from functools import cache
from pathlib import Path

from pydantic import Field

from imts_shared.settings import Folders, Settings


class TrainingSettings(Settings):
    training_port: int = Field(8001, ge=0, le=65_535, description="Port of the training service's API.")
    training_worker_port: int = Field(8011, ge=0, le=65_535, description="Port of the worker's health server.")
    training_slots: int | None = Field(
        None, ge=1, le=1024, description="Jobs that one worker runs at a time; by default one a GPU, one without."
    )
    training_ray_wait_seconds: float = Field(
        60, ge=1, le=86_400, description="How long a job waits for room on its Ray cluster before it fails."
    )
    models_folder: Path | None = Field(
        None, description="Where models are made and downloaded to; by default `models` in the home."
    )
    model_roots: Folders = Field(
        default_factory=list, description="Folders under which a job may name a model by its path, with : between them."
    )
    hub_offline: bool = Field(False, description="Never ask a model hub, whatever the network allows.")
    hub_mirror: str | None = Field(
        None, description="Where Hugging Face's hub is mirrored, such as https://hf-mirror.com."
    )
    hub: str = Field("huggingface", pattern="^(huggingface|modelscope)$", description="Which hub ids are asked of.")

    allow_internal_rewards: bool = Field(
        False, description="Whether a job's reward endpoint may lie on this machine or in a private network."
    )

    @property
    def models(self) -> Path:
        return (self.models_folder or self.home / "models").absolute()


@cache
def settings() -> TrainingSettings:
    return TrainingSettings()
