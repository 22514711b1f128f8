"""The tables of webhooks and their deliveries."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Identity, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel


class WebhookRow(SQLModel, table=True):
    """Its signing secret is derived from the platform's secret key and the id, and stored nowhere."""

    __tablename__ = "webhooks"

    id: UUID = Field(primary_key=True)
    project: str = Field(sa_column=Column(Text, ForeignKey("projects.name"), nullable=False))
    url: str = Field(sa_type=Text)
    states: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    kinds: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    allow_internal: bool
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class DeliveryRow(SQLModel, table=True):
    """Written in the transaction of the state change it tells of, so that none is missed and none invented."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="webhook_deliveries_state_known"),
        CheckConstraint("(state = 'pending') = (next_try_at IS NOT NULL)", name="webhook_deliveries_due_when_pending"),
        Index("webhook_deliveries_due", "next_try_at", postgresql_where=text("state = 'pending'")),
        Index("webhook_deliveries_by_webhook", "webhook_id", text("id DESC")),
    )

    id: int | None = Field(
        default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True, nullable=False)
    )
    webhook_id: UUID = Field(sa_column=Column(ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False))
    event: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    state: str = Field(sa_type=Text)
    tries: int
    next_try_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))
    last_status: int | None = None
    last_error: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    delivered_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
