"""The control plane's settings."""

import json
from functools import cache
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from imts_shared.settings import Settings


class ControlPlaneSettings(Settings):
    database_url: SecretStr = Field(description="Postgres, such as postgresql://user:password@host:5432/imts.")
    database_pool_size: int = Field(10, ge=2, le=200, description="Connections that one process keeps.")
    secret_key: SecretStr = Field(
        min_length=32,
        description="Signs webhooks, encrypts tokens and providers' keys; changing it gives every webhook another"
        " secret.",
    )
    old_secret_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list,
        description="Secret keys of earlier times, with commas or spaces between them: what was set under them is read"
        " and encrypted anew at start.",
    )
    control_plane_port: int = Field(8080, description="Port of the REST API.")
    watcher_port: int = Field(8090, description="Port of the watcher's health answers.")
    analyzer_url: str = Field("http://127.0.0.1:8002", description="Where the analyzer service answers.")
    training_url: str = Field("http://127.0.0.1:8001", description="Where the training service answers.")
    inference_url: str = Field("http://127.0.0.1:8014", description="Where an inference worker's API answers.")
    max_body_bytes: int = Field(10 * 2**20, ge=1024, description="Largest JSON body.")
    max_upload_bytes: int = Field(50 * 2**30, ge=1024, description="Largest data set file.")

    lease_seconds: float = Field(20, ge=1, description="An attempt not heard for so long is ended.")
    beat_seconds: float = Field(2, gt=0, le=2, description="Longest time between two reports of an attempt.")
    claim_seconds: float = Field(15, ge=1, description="A message that nobody claims in this time is sent again.")
    stop_grace_seconds: float = Field(8, ge=0, description="What an engine has to save its work when told to stop.")
    retry_delay_seconds: float = Field(1, ge=0, description="First wait before another attempt; it doubles.")
    retry_delay_max_seconds: float = Field(60, ge=0, description="Longest wait before another attempt.")
    worker_gone_seconds: float = Field(10, ge=2, description="A worker not heard for so long gets no work.")

    gpu_patience_seconds: float = Field(
        600, ge=0, description="A job for several GPUs that has waited so long gets a worker kept for it."
    )

    failed_keys_per_minute: int = Field(20, ge=1, description="Wrong keys that one address may try in a minute.")

    keep_event_days: float = Field(30, ge=0, description="Progress and metric events of ended jobs.")
    keep_log_days: float = Field(90, ge=0, description="Log lines of ended jobs.")
    keep_checkpoint_days: float = Field(30, ge=0, description="Checkpoints of ended jobs that no model came from.")
    keep_job_days: float = Field(0, ge=0, description="Ended jobs; 0 keeps them for good.")
    keep_delivery_days: float = Field(30, ge=0, description="Webhook deliveries that have ended.")
    keep_request_days: float = Field(30, ge=0, description="Logged requests of the gateway.")
    keep_decision_days: float = Field(
        90, ge=0, description="Routing decisions and feedback, and lessons that a gateway which starts does not need."
    )

    @field_validator("old_secret_keys", mode="before")
    @classmethod
    def keys_in_one_line(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        return json.loads(given) if given.lstrip().startswith("[") else given.replace(",", " ").split()


@cache
def settings() -> ControlPlaneSettings:
    return ControlPlaneSettings()
