"""The table of projects' tokens: nothing in it can be read without the platform's secret key."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, ForeignKey, LargeBinary, Text
from sqlmodel import Field, SQLModel


class TokenRow(SQLModel, table=True):
    __tablename__ = "project_tokens"

    project: str = Field(sa_column=Column(Text, ForeignKey("projects.name"), primary_key=True, nullable=False))
    name: str = Field(sa_type=Text, primary_key=True)
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    key_id: str = Field(sa_type=Text)
    """Which secret key opens it."""
    set_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    set_by: UUID
