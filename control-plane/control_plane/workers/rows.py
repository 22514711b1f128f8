"""The table of workers that have announced themselves, and of processes whose presence rules depend on."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Column, DateTime, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel


class WorkerRow(SQLModel, table=True):
    __tablename__ = "workers"
    __table_args__ = (CheckConstraint("slots >= 1", name="workers_slots_positive"),)

    id: str = Field(sa_type=Text, primary_key=True)
    name: str = Field(sa_type=Text)
    service: str = Field(sa_type=Text)
    kinds: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    slots: int
    queue: str = Field(sa_type=Text)
    host: str = Field(sa_type=Text)
    pid: int
    version: str = Field(sa_type=Text)
    devices: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    draining: bool
    started_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    seen_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class PresenceRow(SQLModel, table=True):
    """Since when a part of the control plane has been there without a break (`api`)."""

    __tablename__ = "presence"

    name: str = Field(sa_type=Text, primary_key=True)
    since: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    seen_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
