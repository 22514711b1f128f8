"""The tables of models, of the models that jobs read, and of the checkpoints that jobs wrote."""

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
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


class ModelRow(SQLModel, table=True):
    """One version of a model. A base model only names its source; every other one has its files under `prefix`."""

    __tablename__ = "models"
    __table_args__ = (
        CheckConstraint("kind IN ('base', 'adapter', 'merged', 'gguf')", name="models_kind_known"),
        CheckConstraint("(kind = 'base') = (source IS NOT NULL)", name="models_source_of_base"),
        CheckConstraint("(kind = 'base') = (prefix IS NULL)", name="models_files_unless_base"),
        CheckConstraint("version >= 1 AND bytes >= 0 AND files >= 0", name="models_counts_sane"),
        UniqueConstraint("project", "name", "version", name="models_version_once"),
        Index("models_by_project", "project", text("id DESC")),
        Index("models_by_job", "job_id", postgresql_where=text("job_id IS NOT NULL")),
        Index("models_by_base", "base_model_id", postgresql_where=text("base_model_id IS NOT NULL")),
    )

    id: UUID = Field(primary_key=True)
    project: str = Field(sa_column=Column(Text, ForeignKey("projects.name"), nullable=False))
    name: str = Field(sa_type=Text)
    version: int
    kind: str = Field(sa_type=Text)
    base_model: str | None = Field(default=None, sa_type=Text)
    base_model_id: UUID | None = Field(
        default=None, sa_column=Column(ForeignKey("models.id", ondelete="RESTRICT"), nullable=True)
    )
    source: str | None = Field(default=None, sa_type=Text)
    template: str | None = Field(default=None, sa_type=Text)
    job_id: UUID | None = Field(
        default=None, sa_column=Column(ForeignKey("jobs.id", ondelete="RESTRICT"), nullable=True)
    )
    checkpoint_step: int | None = Field(default=None, sa_type=BigInteger)
    prefix: str | None = Field(default=None, sa_type=Text)
    bytes: int = Field(default=0, sa_type=BigInteger)
    files: int = 0
    sha256: str | None = Field(default=None, sa_type=Text)
    details: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSONB, nullable=False))
    metrics: dict[str, float | None] = Field(default_factory=dict, sa_column=Column(JSONB, nullable=False))
    card: str = Field(default="", sa_type=Text)
    trust_remote_code: bool = False
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    created_by: UUID | None = None


class JobModelRow(SQLModel, table=True):
    """A job reads this model and calls it `named`. While the job has not ended, the model cannot be deleted."""

    __tablename__ = "job_models"
    __table_args__ = (Index("job_models_by_model", "model_id"),)

    job_id: UUID = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, nullable=False))
    named: str = Field(sa_type=Text, primary_key=True)
    model_id: UUID = Field(sa_column=Column(ForeignKey("models.id", ondelete="RESTRICT"), nullable=False))


class CheckpointRow(SQLModel, table=True):
    """A checkpoint that an accepted report named. Its prefix has no slash at its end."""

    __tablename__ = "job_checkpoints"
    __table_args__ = (CheckConstraint("step >= 0 AND bytes >= 0 AND files >= 0", name="job_checkpoints_counts_sane"),)

    job_id: UUID = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, nullable=False))
    attempt: int = Field(primary_key=True)
    step: int = Field(sa_type=BigInteger, primary_key=True)
    prefix: str = Field(sa_type=Text)
    bytes: int = Field(sa_type=BigInteger)
    files: int
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
