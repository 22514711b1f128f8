"""The inference service's settings."""

from functools import cache

from pydantic import Field

from imts_shared.settings import Settings


class InferenceSettings(Settings):
    inference_port: int = Field(8004, ge=0, le=65_535, description="Port of the gateway.")
    inference_worker_port: int = Field(8014, ge=0, le=65_535, description="Port of the worker's health server.")

    gateway_body_bytes: int = Field(50_000_000, ge=1_000, description="The largest request that the gateway takes.")
    gateway_body_seconds: float = Field(60, gt=0, description="How long a request's body may take to arrive.")
    gateway_connect_seconds: float = Field(5, gt=0, description="How long an engine may take to accept a connection.")
    gateway_first_byte_seconds: float = Field(
        120, gt=0, description="How long one engine may take to the first byte of a streamed answer."
    )
    gateway_silence_seconds: float = Field(
        120, gt=0, description="The longest silence within a streamed answer before it counts as cut."
    )
    gateway_whole_seconds: float = Field(
        1_800, gt=0, description="From a request's arrival to the last byte of its answer, waiting and tries included."
    )
    gateway_wake_seconds: float = Field(
        120, ge=0, description="How long a request waits for a model that sleeps or starts."
    )
    gateway_settle_seconds: float = Field(
        5, ge=0, description="How long a request that no engine took waits for news of other engines."
    )
    gateway_tries: int = Field(3, ge=1, le=20, description="To how many engines one request is offered at most.")
    gateway_drain_seconds: int = Field(
        5, ge=0, description="What running requests get when the gateway itself is stopped."
    )


@cache
def settings() -> InferenceSettings:
    return InferenceSettings()
