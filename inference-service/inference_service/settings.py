"""The inference service's settings."""

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel

from imts_shared.settings import Folders, Settings


class EnginePod(BaseModel):
    """What a cluster wants to be told about engines' pods, spelled as Kubernetes spells it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    cpu: int = Field(1, ge=1, description="Cores asked for, and threads of an engine on the CPU.")
    gpus: int = Field(0, ge=0, le=64, description="Of an engine whose deployment names no number.")
    gpu_resource: str = Field("nvidia.com/gpu", pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    image_pull_secrets: list[str] = Field(default_factory=list)
    runtime_class_name: str | None = None


class InferenceSettings(Settings):
    inference_port: int = Field(8004, ge=0, le=65_535, description="Port of the gateway.")

    gateway_body_bytes: int = Field(50_000_000, ge=1_000, description="The largest request that the gateway takes.")
    gateway_bodies_bytes: int = Field(
        512 * 2**20,
        ge=100_000,
        description="Bytes of the bodies that the gateway holds at once, as they came, parsed, and as they go on,"
        " over all requests larger than 64 KiB.",
    )
    gateway_metrics_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="What GET /metrics, which names all models, wants as a bearer's key; none: it is open to all who"
        " reach the port.",
    )
    gateway_head_seconds: float = Field(30, gt=0, description="How long a request's headers may take to arrive.")
    gateway_body_seconds: float = Field(60, gt=0, description="How long a request's body may take to arrive.")
    gateway_connect_seconds: float = Field(5, gt=0, description="How long an engine may take to accept a connection.")
    gateway_first_byte_seconds: float = Field(
        120, gt=0, description="How long one engine may take to the first byte of a streamed answer."
    )
    gateway_try_seconds: float = Field(
        600, gt=0, description="How long one upstream may take for an answer that is not streamed."
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
        10, ge=0, description="How long a request that no engine took waits for news of other engines."
    )
    gateway_tries: int = Field(3, ge=1, le=20, description="To how many engines one request is offered at most.")
    gateway_evaluate_seconds: float = Field(
        120, gt=0, description="How long one evaluation of a route's policies may take."
    )
    gateway_drain_seconds: int = Field(
        5, ge=0, description="What running requests get when the gateway itself is stopped."
    )
    otlp_url: str | None = Field(
        None, description="Where traces of requests are collected, by OpenTelemetry's protocol over HTTP."
    )
    inference_worker_port: int = Field(8014, ge=0, le=65_535, description="Port of the inference worker's API.")
    launcher: Literal["process", "kubernetes"] = Field(
        "process", description="Engines as children of the worker, or each as a Deployment and a Service."
    )
    engine_image: str | None = Field(None, description="The image of engines on Kubernetes.")
    engine_claim: str | None = Field(
        None, description="On Kubernetes the claim of the volume that worker and engines share, mounted at the home."
    )
    engine_pod: EnginePod = Field(
        default_factory=EnginePod,
        description="On Kubernetes, as JSON: cpu, gpus, gpuResource, nodeSelector, tolerations, imagePullSecrets,"
        " runtimeClassName.",
    )
    kubernetes_instance: str = Field(
        "imts",
        pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
        description="The release that this worker's engines belong to; one worker for each in a namespace.",
    )
    kubernetes_account: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"), description="Where the service account lies."
    )
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
    engine_host: str = Field("127.0.0.1", description="The address that engines listen on.")
    engine_address: str = Field(
        "127.0.0.1", description="Where gateways reach the engines of this worker: in a container, its name."
    )
    llama_server: str = Field("llama-server", description="llama.cpp's server, by name or path; it serves GGUF.")
    training_url: str = Field(
        "http://127.0.0.1:8001", description="Where the training service answers, which makes the built-in models."
    )
    models_folder: Path | None = Field(
        None, description="Where models are made and downloaded to; by default `models` in the home."
    )
    model_roots: Folders = Field(
        default_factory=list, description="Folders under which a deployment may name a model by its path, : between."
    )
    hub_offline: bool = Field(False, description="Never ask a model hub, whatever the network allows.")
    hub_mirror: str | None = Field(
        None, description="Where Hugging Face's hub is mirrored, such as https://hf-mirror.com."
    )

    @property
    def volume(self) -> Path | None:
        """What engines see of the files here; None: all of them."""
        return self.home.absolute() if self.launcher == "kubernetes" else None

    @property
    def models(self) -> Path:
        return (self.models_folder or self.home / "models").absolute()


@cache
def settings() -> InferenceSettings:
    return InferenceSettings()
