"""What inference worker, gateway and control plane say to each other under /internal, with the services' key."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from imts_shared.contracts.access import RequestLog, Role
from imts_shared.contracts.base import Answer, Request
from imts_shared.contracts.deployments import DeploymentReason, DeploymentState, Engine, Progress
from imts_shared.contracts.inputs import Device
from imts_shared.contracts.limits import Limits
from imts_shared.contracts.models import ModelInput
from imts_shared.contracts.problems import FieldNote
from imts_shared.contracts.providers import ProviderKind, ProviderModel, UpstreamLimits
from imts_shared.contracts.routes import RouteSettings


class AdapterReport(Request):
    name: str
    model_id: str | None = Field(None, description="Which model was loaded under the name, where that is known.")
    state: Literal["pending", "loaded", "failed"]
    message: str | None = Field(None, max_length=2_000)
    seconds: float | None = None


class ReplicaReport(Request):
    """A replica as it is now; one that is not reported any more is gone."""

    deployment_id: str
    revision: int
    number: int
    state: DeploymentState
    reason: DeploymentReason | None = None
    message: str | None = Field(None, max_length=4_000)
    hint: str | None = Field(None, max_length=2_000)
    progress: Progress | None = None
    draining: bool = False
    url: str | None = None
    restarts: int = 0
    gpus: list[str] = Field(default_factory=list)
    memory_bytes: int | None = None
    started_at: datetime | None = None
    ready_at: datetime | None = None
    last_used_at: datetime | None = None
    adapters: list[AdapterReport] = Field(default_factory=list)
    metrics: dict[str, float] = Field(default_factory=dict)


class ReportedDeploymentLine(Request):
    deployment_id: str
    revision: int
    replica: int
    at: datetime
    text: str = Field(max_length=20_000)


class ReportedDeploymentMessage(Request):
    deployment_id: str
    at: datetime
    text: str = Field(max_length=4_000)


class SyncRequest(Request):
    """What the worker has. `batch` counts from 1 in a worker's life: lines and messages of a batch are stored once."""

    worker_id: str = Field(min_length=1, max_length=200)
    name: str = Field(max_length=200)
    host: str = Field(max_length=255)
    pid: int
    version: str = Field(max_length=50)
    launcher: Literal["process", "kubernetes"]
    engines: dict[Engine, Literal["installed", "installable", "missing"]]
    devices: list[Device] = Field(default_factory=list)
    gpus_free: int = Field(0, description="That neither a job nor a deployment of this machine holds.")
    memory_bytes: int = Field(description="That its deployments may use together.")
    draining: bool = False
    batch: Annotated[int, Field(ge=1)]
    replicas: list[ReplicaReport] = Field(default_factory=list, max_length=1_000)
    lines: list[ReportedDeploymentLine] = Field(default_factory=list, max_length=5_000)
    messages: list[ReportedDeploymentMessage] = Field(default_factory=list, max_length=1_000)


class EngineCheckRequest(Answer):
    """An engine's arguments, as the control plane asks a worker's API before it stores them."""

    engine: Engine
    engine_args: dict[str, Any]


class EngineCheck(Answer):
    ok: bool
    notes: list[FieldNote] = Field(default_factory=list)


class WantedModel(Answer):
    """`registered` is None for what the registry does not hold: builtin:, a path, a hub id."""

    named: str
    registered: ModelInput | None = None


class WantedAdapter(Answer):
    name: str
    model: WantedModel


class WantedRevision(Answer):
    number: int
    model: WantedModel
    engine: Engine
    engine_args: dict[str, Any]
    gpu: int | None = None
    port: int | None = None
    start_timeout_seconds: int


class WantedDeployment(Answer):
    """`revisions` are those that shall run now: the serving one, and the newest while it is not yet serving. The worker
    starts what is missing, and drains and ends every replica of another revision or with a number not below
    `replicas`."""

    id: str
    name: str
    project: str
    replicas: int
    serving_revision: int | None = None
    revisions: list[WantedRevision]
    adapters: list[WantedAdapter]
    drain_seconds: int
    secrets: dict[str, str] = Field(default_factory=dict, repr=False, description="The project's hub tokens.")


class SyncAnswer(Answer):
    """All that this worker shall look after for the next `lease_seconds`; what it runs besides it must end."""

    deployments: list[WantedDeployment]
    gone: list[str] = Field(
        default_factory=list, description="Deployments that were deleted: what runs for them is drained."
    )
    lease_seconds: float
    beat_seconds: float


class KnownKey(Answer):
    id: str
    sha256: str = Field(description="Of the key, in hex.")
    role: Role
    project: str | None = None
    expires_at: datetime | None = None
    limits: Limits | None = None


class KnownProject(Answer):
    name: str
    limits: Limits | None = None
    request_log: RequestLog = RequestLog.off


class KnownProvider(Answer):
    """`sealed_key` is its key under the services' key: see imts_shared.sealing."""

    id: str
    name: str
    kind: ProviderKind
    base_url: str
    sealed_key: str | None = Field(None, repr=False)
    models: list[ProviderModel]
    limits: UpstreamLimits = Field(default_factory=UpstreamLimits)
    project: str | None = None
    allow_internal: bool = False


class KnownRoute(RouteSettings):
    name: str
    project: str


class Target(Answer):
    """One engine that answers for a name."""

    url: str
    replica: str = Field(description="Stays the same as long as it is the same engine process.")


class ServedModel(Answer):
    """A name at the gateway. With no targets, `state` says why: asleep wants to be woken, the rest not yet or not."""

    name: str
    project: str
    deployment_id: str
    adapter: bool = False
    state: Literal["ready", "starting", "asleep", "failed", "stopped"]
    message: str | None = None
    targets: list[Target] = Field(default_factory=list)
    created_at: datetime | None = None


class Snapshot(Answer):
    """All that a gateway needs to know. `version` changes when anything in it does."""

    version: str
    keys: list[KnownKey]
    models: list[ServedModel]
    projects: list[KnownProject] = Field(default_factory=list)
    providers: list[KnownProvider] = Field(default_factory=list)
    routes: list[KnownRoute] = Field(default_factory=list)
