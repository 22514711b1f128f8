"""The tables of sweeps and their trials."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

_ENDED = "state IN ('stopped', 'succeeded', 'failed')"


def _document(*, null: bool = False) -> Any:
    return Field(default=None, sa_column=Column(JSONB(none_as_null=True), nullable=null))


class SweepRow(SQLModel, table=True):
    """`reports` are the values that trials were compared by, in the order in which they were: number, step, value."""

    __tablename__ = "sweeps"
    __table_args__ = (
        CheckConstraint(
            "state IN ('running', 'stopping', 'stopped', 'succeeded', 'failed')", name="sweeps_state_known"
        ),
        CheckConstraint("method IN ('grid', 'random', 'asha')", name="sweeps_method_known"),
        CheckConstraint("goal IN ('minimize', 'maximize')", name="sweeps_goal_known"),
        CheckConstraint("(method = 'asha') = (asha IS NOT NULL)", name="sweeps_asha_of_asha"),
        CheckConstraint("trials >= 1 AND concurrency >= 1", name="sweeps_counts_sane"),
        CheckConstraint(f"({_ENDED}) = (ended_at IS NOT NULL)", name="sweeps_ended_when_final"),
        Index("sweeps_by_project", "project", text("id DESC")),
        Index(
            "sweeps_idempotency",
            "project",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("sweeps_going_on", "id", postgresql_where=text("ended_at IS NULL")),
    )

    id: UUID = Field(primary_key=True)
    project: str = Field(sa_column=Column(Text, ForeignKey("projects.name"), nullable=False))
    name: str | None = Field(default=None, sa_type=Text)
    state: str = Field(sa_type=Text)
    method: str = Field(sa_type=Text)
    base: dict[str, Any] = _document()
    parameters: dict[str, Any] = _document()
    trials: int
    concurrency: int
    metric: str = Field(sa_type=Text)
    goal: str = Field(sa_type=Text)
    asha: dict[str, Any] | None = _document(null=True)
    seed: int
    priority: int
    labels: dict[str, str] = _document()
    reports: list[Any] = _document()
    error: dict[str, Any] | None = _document(null=True)
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    created_by: UUID
    idempotency_key: str | None = Field(default=None, sa_type=Text)
    request_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
    ended_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))


class TrialRow(SQLModel, table=True):
    """A trial is `waiting` until its job is stored, in the same transaction as the job, and then `active` until the
    job has ended. What it was then stays, whatever becomes of the job."""

    __tablename__ = "sweep_trials"
    __table_args__ = (
        CheckConstraint(
            "state IN ('waiting', 'active', 'succeeded', 'failed', 'stopped', 'pruned')",
            name="sweep_trials_state_known",
        ),
        CheckConstraint("number >= 1", name="sweep_trials_number_sane"),
        CheckConstraint("state <> 'pruned' OR pruned_at_step IS NOT NULL", name="sweep_trials_pruned_somewhere"),
        Index("sweep_trials_by_job", "job_id", unique=True, postgresql_where=text("job_id IS NOT NULL")),
    )

    sweep_id: UUID = Field(
        sa_column=Column(ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True, nullable=False)
    )
    number: int = Field(primary_key=True)
    job_id: UUID | None = Field(
        default=None, sa_column=Column(ForeignKey("jobs.id", ondelete="SET NULL"), nullable=True)
    )
    state: str = Field(sa_type=Text)
    parameters: dict[str, Any] = _document()
    value: float | None = None
    pruned_at_step: int | None = Field(default=None, sa_type=BigInteger)
    error: dict[str, Any] | None = _document(null=True)
