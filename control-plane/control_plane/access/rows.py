"""The tables of projects and API keys."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from imts_shared.contracts.access import RequestLog
from imts_shared.contracts.limits import Limits


def limits_of(row: "ProjectRow | KeyRow") -> Limits | None:
    return None if row.limits is None else Limits.model_validate(row.limits)


class ProjectRow(SQLModel, table=True):
    __tablename__ = "projects"
    __table_args__ = (
        CheckConstraint("name ~ '^[a-z0-9][a-z0-9-]{0,62}$'", name="projects_name_plain"),
        CheckConstraint("max_running_jobs >= 0 AND max_queued_jobs >= 0", name="projects_quota_sane"),
        CheckConstraint("jsonb_typeof(limits) = 'object'", name="projects_limits_object"),
        CheckConstraint("request_log IN ('off', 'metadata', 'full')", name="projects_request_log_known"),
    )

    name: str = Field(sa_type=Text, primary_key=True)
    max_running_jobs: int | None = None
    max_queued_jobs: int | None = None
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    limits: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True), nullable=True))
    request_log: str = Field(
        default=str(RequestLog.off), sa_column=Column(Text, nullable=False, server_default=str(RequestLog.off))
    )


class KeyRow(SQLModel, table=True):
    """A key itself is never stored: 256 random bits need no slow hash, so SHA-256 it is."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("role IN ('admin', 'member', 'viewer', 'inference')", name="api_keys_role_known"),
        CheckConstraint("(role = 'admin') = (project IS NULL)", name="api_keys_project_of_role"),
        CheckConstraint("jsonb_typeof(limits) = 'object'", name="api_keys_limits_object"),
    )

    id: UUID = Field(primary_key=True)
    name: str = Field(sa_type=Text)
    role: str = Field(sa_type=Text)
    project: str | None = Field(default=None, sa_column=Column(Text, ForeignKey("projects.name"), nullable=True))
    key_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    hint: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    last_used_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    limits: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True), nullable=True))
