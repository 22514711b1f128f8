"""The inference service's settings."""

from functools import cache
from pathlib import Path

from pydantic import Field

from imts_shared.settings import Settings


class InferenceSettings(Settings):
    inference_worker_port: int = Field(8014, ge=0, le=65_535, description="Port of the inference worker's API.")
    inference_memory_gb: float | None = Field(
        None, gt=0, description="Memory that deployments may use together; by default 80% of the machine's."
    )
    inference_cache_gb: int | None = Field(
        None, ge=1, le=1024, description="Memory for the tokens of running requests of each engine on the CPU."
    )
    engine_python: Path | None = Field(
        None, description="A Python that has vLLM, as in a container; else an environment is made for it."
    )
    engine_installer: str | None = Field(
        None, description="The command that makes vLLM's environment (with --gpu added for GPUs) and prints its Python."
    )
    llama_server: str = Field("llama-server", description="llama.cpp's server, by name or path; it serves GGUF.")
    training_url: str = Field(
        "http://127.0.0.1:8001", description="Where the training service answers, which makes the built-in models."
    )
    models_folder: Path | None = Field(
        None, description="Where models are made and downloaded to; by default `models` in the home."
    )
    model_roots: list[Path] = Field(
        default_factory=list, description="Folders under which a deployment may name a model by its path."
    )
    hub_offline: bool = Field(False, description="Never ask a model hub, whatever the network allows.")
    hub_mirror: str | None = Field(
        None, description="Where Hugging Face's hub is mirrored, such as https://hf-mirror.com."
    )

    @property
    def models(self) -> Path:
        return (self.models_folder or self.home / "models").absolute()


@cache
def settings() -> InferenceSettings:
    return InferenceSettings()
