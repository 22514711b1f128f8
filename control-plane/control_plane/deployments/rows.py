"""The tables of deployments, their versions, adapters, names, and what is heard of their engines."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from imts_shared.contracts.deployments import DeploymentReason, DeploymentState, Engine

NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


def _one_of(column: str, values: type[DeploymentState] | type[DeploymentReason] | type[Engine]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


def _moment(*, null: bool = True) -> Any:
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=null))


def _document(*, null: bool = False) -> Any:
    return Field(default=None, sa_column=Column(JSONB(none_as_null=True), nullable=null))


def _of_deployment(*, primary: bool = False) -> Any:
    column: Any = Column(ForeignKey("deployments.id", ondelete="CASCADE"), primary_key=primary, nullable=False)
    return Field(sa_column=column)


class DeploymentRow(SQLModel, table=True):
    """What is wanted, and the state that was last derived from it and from what its worker says.

    `busy_at` is when it was last used, woken or got ready: its sleep is counted from there.
    """

    __tablename__ = "deployments"
    __table_args__ = (
        CheckConstraint(f"name ~ '{NAME}'", name="deployments_name_plain"),
        CheckConstraint(_one_of("state", DeploymentState), name="deployments_state_known"),
        CheckConstraint(_one_of("reason", DeploymentReason), name="deployments_reason_known"),
        CheckConstraint(_one_of("waiting_reason", DeploymentReason), name="deployments_waiting_known"),
        CheckConstraint("launcher IN ('process', 'kubernetes')", name="deployments_launcher_known"),
        CheckConstraint("replicas BETWEEN 0 AND 64", name="deployments_replicas_sane"),
        CheckConstraint("ready_replicas BETWEEN 0 AND replicas", name="deployments_ready_wanted"),
        CheckConstraint(
            "start_timeout_seconds >= 1 AND drain_seconds >= 0 AND idle_seconds >= 1", name="deployments_times_sane"
        ),
        CheckConstraint("revision >= 1 AND serving_revision BETWEEN 1 AND revision", name="deployments_revisions_sane"),
        CheckConstraint("last_seq >= 0 AND last_line >= 0", name="deployments_counters_sane"),
        CheckConstraint("(worker_id IS NULL) = (lease_until IS NULL)", name="deployments_lease_of_worker"),
        CheckConstraint("NOT (stopped AND asleep)", name="deployments_stopped_or_asleep"),
        CheckConstraint("state <> 'ready' OR ready_replicas >= 1", name="deployments_ready_has_replicas"),
        CheckConstraint(
            "ready_replicas = 0 OR (serving_revision IS NOT NULL AND NOT stopped AND NOT asleep)",
            name="deployments_serving_when_ready",
        ),
        Index("deployments_by_project", "project", text("id DESC")),
        Index("deployments_by_worker", "worker_id", postgresql_where=text("worker_id IS NOT NULL")),
        Index("deployments_unowned", "id", postgresql_where=text("worker_id IS NULL")),
        Index("deployments_labels", "labels", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}),
    )

    id: UUID = Field(primary_key=True)
    project: str = Field(sa_column=Column(Text, ForeignKey("projects.name"), nullable=False))
    name: str = Field(sa_type=Text)
    replicas: int
    launcher: str | None = Field(default=None, sa_type=Text)
    start_timeout_seconds: int
    idle_seconds: int | None = None
    drain_seconds: int
    labels: dict[str, str] = _document()
    stopped: bool = False
    asleep: bool = False
    revision: int
    serving_revision: int | None = None

    state: str = Field(sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    message: str | None = Field(default=None, sa_type=Text)
    error: dict[str, Any] | None = _document(null=True)
    progress: dict[str, Any] | None = _document(null=True)
    ready_replicas: int = 0

    worker_id: str | None = Field(default=None, sa_type=Text)
    lease_until: datetime | None = _moment()
    waiting_reason: str | None = Field(default=None, sa_type=Text)
    waiting_message: str | None = Field(default=None, sa_type=Text)

    last_seq: int = 0
    last_line: int = Field(default=0, sa_type=BigInteger)
    created_at: datetime = _moment(null=False)
    created_by: UUID | None = None
    updated_at: datetime = _moment(null=False)
    last_used_at: datetime | None = _moment()
    busy_at: datetime = _moment(null=False)
    room_made_at: datetime | None = _moment()
    """When another last went to sleep for it."""


class RevisionRow(SQLModel, table=True):
    """What needs an engine of its own: kept while it serves or is the newest. `failure` says why it was given up; it
    then holds its model no longer."""

    __tablename__ = "deployment_revisions"
    __table_args__ = (
        CheckConstraint("number >= 1", name="deployment_revisions_number_sane"),
        CheckConstraint(_one_of("engine", Engine), name="deployment_revisions_engine_known"),
        CheckConstraint("gpu BETWEEN 0 AND 64", name="deployment_revisions_gpu_sane"),
        CheckConstraint("port BETWEEN 1024 AND 65535", name="deployment_revisions_port_sane"),
        Index("deployment_revisions_by_model", "model_id", postgresql_where=text("model_id IS NOT NULL")),
    )

    deployment_id: UUID = _of_deployment(primary=True)
    number: int = Field(primary_key=True)
    model: str = Field(sa_type=Text)
    model_id: UUID | None = Field(
        default=None, sa_column=Column(ForeignKey("models.id", ondelete="RESTRICT"), nullable=True)
    )
    base: str = Field(sa_type=Text)
    """What adapters must stand on: a registered model's id, else where the model comes from."""
    engine: str = Field(sa_type=Text)
    engine_args: dict[str, Any] = _document()
    gpu: int | None = None
    port: int | None = None
    failure: dict[str, Any] | None = _document(null=True)
    created_at: datetime = _moment(null=False)


class NameRow(SQLModel, table=True):
    """What callers of the gateway give as `model`: of a deployment or of one of its adapters, once in a project."""

    __tablename__ = "served_names"
    __table_args__ = (
        CheckConstraint(f"name ~ '{NAME}'", name="served_names_plain"),
        Index("served_names_by_deployment", "deployment_id"),
    )

    project: str = Field(sa_column=Column(Text, ForeignKey("projects.name"), primary_key=True, nullable=False))
    name: str = Field(sa_type=Text, primary_key=True)
    deployment_id: UUID = _of_deployment()
    adapter: bool


class AdapterRow(SQLModel, table=True):
    __tablename__ = "deployment_adapters"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'loaded', 'failed')", name="deployment_adapters_state_known"),
        Index("deployment_adapters_by_model", "model_id"),
    )

    deployment_id: UUID = _of_deployment(primary=True)
    name: str = Field(sa_type=Text, primary_key=True)
    model: str = Field(sa_type=Text)
    model_id: UUID = Field(sa_column=Column(ForeignKey("models.id", ondelete="RESTRICT"), nullable=False))
    state: str = Field(default="pending", sa_type=Text)
    message: str | None = Field(default=None, sa_type=Text)
    seconds: float | None = None
    added_at: datetime = _moment(null=False)


class ReplicaRow(SQLModel, table=True):
    """As its worker last said: `report` is the whole of it."""

    __tablename__ = "deployment_replicas"
    __table_args__ = (
        CheckConstraint(_one_of("state", DeploymentState), name="deployment_replicas_state_known"),
        CheckConstraint("revision >= 1 AND number >= 0", name="deployment_replicas_numbers_sane"),
    )

    deployment_id: UUID = _of_deployment(primary=True)
    revision: int = Field(primary_key=True)
    number: int = Field(primary_key=True)
    state: str = Field(sa_type=Text)
    report: dict[str, Any] = _document()
    changed_at: datetime = _moment(null=False)


class DeploymentEventRow(SQLModel, table=True):
    """`seq` counts from 1 within a deployment; it is given under the deployment's row lock."""

    __tablename__ = "deployment_events"
    __table_args__ = (
        CheckConstraint("type IN ('state', 'progress', 'adapter', 'message')", name="deployment_events_type_known"),
        CheckConstraint("seq >= 1", name="deployment_events_seq_positive"),
    )

    deployment_id: UUID = _of_deployment(primary=True)
    seq: int = Field(primary_key=True)
    type: str = Field(sa_type=Text)
    at: datetime = _moment(null=False)
    data: dict[str, Any] = _document()


class DeploymentLineRow(SQLModel, table=True):
    """A line of an engine; only the newest of a deployment are kept."""

    __tablename__ = "deployment_lines"
    __table_args__ = (CheckConstraint("seq >= 1", name="deployment_lines_seq_positive"),)

    deployment_id: UUID = _of_deployment(primary=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True)
    at: datetime = _moment(null=False)
    revision: int
    replica: int
    text: str = Field(sa_type=Text)


class InferenceWorkerRow(SQLModel, table=True):
    """`batch` is the last one of its life whose lines and messages were stored."""

    __tablename__ = "inference_workers"
    __table_args__ = (
        CheckConstraint("launcher IN ('process', 'kubernetes')", name="inference_workers_launcher_known"),
        CheckConstraint("batch >= 0 AND memory_bytes >= 0 AND gpus_free >= 0", name="inference_workers_counts_sane"),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    name: str = Field(sa_type=Text)
    host: str = Field(sa_type=Text)
    pid: int
    version: str = Field(sa_type=Text)
    launcher: str = Field(sa_type=Text)
    engines: dict[str, str] = _document()
    devices: list[dict[str, Any]] = _document()
    gpus_free: int
    memory_bytes: int = Field(sa_type=BigInteger)
    draining: bool
    batch: int = Field(sa_type=BigInteger)
    started_at: datetime = _moment(null=False)
    seen_at: datetime = _moment(null=False)
