"""The analyzer service's settings."""

from functools import cache

from pydantic import Field

from imts_shared.settings import Settings


class AnalyzerSettings(Settings):
    analyzer_port: int = Field(8002, ge=0, le=65_535, description="Port of the analyzer's API.")
    analyzer_worker_port: int = Field(8012, ge=0, le=65_535, description="Port of the worker's health server.")
    worker_slots: int = Field(1, ge=1, le=1024, description="Jobs that one worker runs at a time.")


@cache
def settings() -> AnalyzerSettings:
    return AnalyzerSettings()
