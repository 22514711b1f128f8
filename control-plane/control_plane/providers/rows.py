"""The table of providers: a key in it can only be read with the platform's secret key."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


class ProviderRow(SQLModel, table=True):
    """`project` is None for one that all projects may ask."""

    __tablename__ = "providers"
    __table_args__ = (
        CheckConstraint("kind IN ('openai', 'anthropic', 'ollama')", name="providers_kind_known"),
        CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'", name="providers_name_plain"),
        CheckConstraint("base_url ~ '^https?://[^?#]+$'", name="providers_url_plain"),
        CheckConstraint("(sealed IS NULL) = (key_id IS NULL)", name="providers_sealed_under_a_key"),
        CheckConstraint("jsonb_typeof(models) = 'array'", name="providers_models_array"),
        CheckConstraint("jsonb_typeof(limits) = 'object'", name="providers_limits_object"),
        Index("providers_named_once", text("coalesce(project, '')"), "name", unique=True),
    )

    id: UUID = Field(primary_key=True)
    project: str | None = Field(default=None, sa_column=Column(Text, ForeignKey("projects.name"), nullable=True))
    name: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    base_url: str = Field(sa_type=Text)
    sealed: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    key_id: str | None = Field(default=None, sa_type=Text)
    """Which secret key opens it."""
    models: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    limits: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    allow_internal: bool
    enabled: bool
    created_by: UUID
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    updated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
