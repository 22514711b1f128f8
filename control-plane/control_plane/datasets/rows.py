"""The tables of data set versions and of the jobs that use them."""

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


class DatasetRow(SQLModel, table=True):
    """One version of a data set; a version is its content, so the same file under the same name is the same row."""

    __tablename__ = "datasets"
    __table_args__ = (
        CheckConstraint("state IN ('ready', 'unchecked', 'unreadable')", name="datasets_state_known"),
        CheckConstraint(
            "(state = 'ready') <= (rows IS NOT NULL AND bad_rows IS NOT NULL)", name="datasets_ready_counted"
        ),
        UniqueConstraint("project", "name", "version", name="datasets_version_once"),
        UniqueConstraint("project", "name", "sha256", name="datasets_content_once"),
        Index("datasets_by_project", "project", text("id DESC")),
        Index("datasets_by_content", "sha256"),
    )

    id: UUID = Field(primary_key=True)
    project: str = Field(sa_column=Column(Text, ForeignKey("projects.name"), nullable=False))
    name: str = Field(sa_type=Text)
    version: int
    state: str = Field(sa_type=Text)
    format: str | None = Field(default=None, sa_type=Text)
    asked_format: str | None = Field(default=None, sa_type=Text)
    file_type: str | None = Field(default=None, sa_type=Text)
    file_name: str = Field(sa_type=Text)
    rows: int | None = Field(default=None, sa_type=BigInteger)
    bad_rows: int | None = Field(default=None, sa_type=BigInteger)
    bytes: int = Field(sa_type=BigInteger)
    sha256: str = Field(sa_type=Text)
    columns: list[str] = Field(sa_column=Column(JSONB, nullable=False))
    sample: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    problems: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    created_by: UUID | None = None


class JobDatasetRow(SQLModel, table=True):
    """A job reads this version. While the job has not ended, the version cannot be deleted."""

    __tablename__ = "job_datasets"
    __table_args__ = (Index("job_datasets_by_dataset", "dataset_id"),)

    job_id: UUID = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, nullable=False))
    dataset_id: UUID = Field(
        sa_column=Column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True, nullable=False)
    )
