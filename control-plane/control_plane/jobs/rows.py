"""The tables of jobs, their events, metric points and log chunks."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlmodel import Field, SQLModel

from imts_shared.contracts.jobs import FINAL_STATES, EventType, JobKind, JobState, Reason


def one_of(column: str, values: type[JobKind] | type[JobState] | type[Reason] | type[EventType]) -> str:
    return f"{column} IN ({', '.join(repr(str(v)) for v in values)})"


_HELD = "state IN ('dispatched', 'running', 'stopping')"
_FINAL = f"state IN ({', '.join(repr(str(s)) for s in sorted(FINAL_STATES))})"
_SEARCHED = (
    "to_tsvector('simple'::regconfig, coalesce(name, ''))"
    " || jsonb_to_tsvector('simple'::regconfig, labels, '[\"key\", \"string\"]')"
    " || jsonb_to_tsvector('simple'::regconfig, spec, '[\"string\"]')"
)


def moment(*, null: bool = True) -> Any:
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=null))


def document(*, null: bool = False, default: str | None = None) -> Any:
    server_default = text(f"'{default}'::jsonb") if default is not None else None
    return Field(default=None, sa_column=Column(JSONB(none_as_null=True), nullable=null, server_default=server_default))


class JobRow(SQLModel, table=True):
    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(one_of("kind", JobKind), name="jobs_kind_known"),
        CheckConstraint(one_of("state", JobState), name="jobs_state_known"),
        CheckConstraint(one_of("reason", Reason), name="jobs_reason_known"),
        CheckConstraint(f"({_HELD}) = (token_hash IS NOT NULL)", name="jobs_token_lives_with_attempt"),
        CheckConstraint(f"({_HELD}) = (worker_id IS NOT NULL)", name="jobs_worker_lives_with_attempt"),
        CheckConstraint(
            "(state IN ('running', 'stopping')) = (lease_until IS NOT NULL)", name="jobs_lease_lives_with_run"
        ),
        CheckConstraint(f"({_FINAL}) = (ended_at IS NOT NULL)", name="jobs_ended_when_final"),
        CheckConstraint(
            "state <> 'stopping' OR coalesce(reason, '') IN ('user_stopped', 'user_paused')", name="jobs_stopping_asked"
        ),
        CheckConstraint("attempt >= 0 AND tries >= 0 AND tries <= attempt", name="jobs_attempts_sane"),
        CheckConstraint("last_seq >= 1 AND log_lines >= 0 AND batch >= 0", name="jobs_counters_sane"),
        Index("jobs_by_project", "project", text("id DESC")),
        Index("jobs_by_project_kind", "project", "kind", text("id DESC")),
        Index("jobs_by_kind", "kind", text("id DESC")),
        Index("jobs_by_state", "state", text("id DESC")),
        Index("jobs_by_project_state", "project", "state", text("id DESC")),
        Index(
            "jobs_queue",
            "kind",
            "project",
            text("priority DESC"),
            "id",
            postgresql_where=text("state = 'queued'"),
        ),
        Index(
            "jobs_queue_gpus",
            "kind",
            text("coalesce(spec -> 'gpus', 'null'::jsonb)"),
            "project",
            text("priority DESC"),
            "id",
            postgresql_where=text("state = 'queued' AND kind <> 'analysis'"),
        ),
        Index("jobs_held", "worker_id", postgresql_where=text(_HELD)),
        Index("jobs_succeeded", "kind", "ended_at", postgresql_where=text("state = 'succeeded'")),
        Index("jobs_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        Index("jobs_labels", "labels", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}),
        Index("jobs_search", "search", postgresql_using="gin"),
        Index(
            "jobs_idempotency",
            "project",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )

    id: UUID = Field(primary_key=True)
    project: str = Field(sa_column=Column(Text, ForeignKey("projects.name"), nullable=False))
    kind: str = Field(sa_type=Text)
    state: str = Field(sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    name: str | None = Field(default=None, sa_type=Text)
    priority: int
    labels: dict[str, str] = document(default="{}")
    spec: dict[str, Any] = document()
    result: dict[str, Any] | None = document(null=True)
    error: dict[str, Any] | None = document(null=True)
    progress: dict[str, Any] = document(default="{}")
    checkpoint: dict[str, Any] | None = document(null=True)

    attempt: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    tries: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    max_attempts: int
    timeout_seconds: int | None = None
    token_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
    claim_id: str | None = Field(default=None, sa_type=Text)
    worker_id: str | None = Field(default=None, sa_type=Text)
    batch: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    last_seq: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    log_lines: int = Field(default=0, sa_column_kwargs={"server_default": "0"})

    created_at: datetime = moment(null=False)
    not_before: datetime | None = moment()
    dispatched_at: datetime | None = moment()
    started_at: datetime | None = moment()
    attempt_started_at: datetime | None = moment()
    lease_until: datetime | None = moment()
    ended_at: datetime | None = moment()
    events_pruned_at: datetime | None = moment()
    logs_pruned_at: datetime | None = moment()

    idempotency_key: str | None = Field(default=None, sa_type=Text)
    request_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
    created_by: UUID | None = None
    clone_of: UUID | None = None
    search: Any = Field(default=None, sa_column=Column(TSVECTOR, Computed(_SEARCHED, persisted=True)))


class JobEventRow(SQLModel, table=True):
    """`seq` counts from 1 within a job without a gap; it is given under the job's row lock."""

    __tablename__ = "job_events"
    __table_args__ = (
        CheckConstraint(one_of("type", EventType), name="job_events_type_known"),
        CheckConstraint("seq >= 1", name="job_events_seq_positive"),
    )

    job_id: UUID = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, nullable=False))
    seq: int = Field(primary_key=True)
    type: str = Field(sa_type=Text)
    at: datetime = moment(null=False)
    data: dict[str, Any] = document()


class JobMetricRow(SQLModel, table=True):
    """One point a step: a resumed attempt that repeats a step writes over it."""

    __tablename__ = "job_metrics"

    job_id: UUID = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, nullable=False))
    step: int = Field(sa_type=BigInteger, primary_key=True)
    attempt: int
    at: datetime = moment(null=False)
    values: dict[str, Any] = document()


class JobLogRow(SQLModel, table=True):
    """A chunk of log lines: young ones hold their text, sealed ones name a file in storage."""

    __tablename__ = "job_logs"
    __table_args__ = (
        CheckConstraint("lines >= 1 AND first_line >= 1", name="job_logs_count_sane"),
        CheckConstraint("(body IS NULL) <> (key IS NULL)", name="job_logs_one_place"),
        Index("job_logs_young", "job_id", postgresql_where=text("body IS NOT NULL")),
    )

    job_id: UUID = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, nullable=False))
    first_line: int = Field(primary_key=True)
    lines: int
    attempt: int
    body: bytes | None = Field(default=None, sa_type=LargeBinary)
    size: int
    key: str | None = Field(default=None, sa_type=Text)
