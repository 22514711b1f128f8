"""The tables of usage and of logged requests. No foreign keys: what was used was used, whatever was deleted since."""

import datetime as dt
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, Date, DateTime, Float, Identity, Index, Numeric, Text
from sqlalchemy.dialects.postgresql import JSON
from sqlmodel import Field, SQLModel


def _count() -> Any:
    return Field(sa_column=Column(BigInteger, nullable=False))


class UsageRow(SQLModel, table=True):
    """What one key used of one model at one upstream on one day, in UTC."""

    __tablename__ = "usage"
    __table_args__ = (
        CheckConstraint(
            "least(requests, failed, input_tokens, cached_tokens, output_tokens, estimated_tokens, cost) >= 0",
            name="usage_counts_sane",
        ),
        Index("usage_by_key", "key_id", "day"),
        Index("usage_by_project", "project", "day"),
    )

    day: dt.date = Field(sa_column=Column(Date, primary_key=True, nullable=False))
    key_id: str = Field(sa_type=Text, primary_key=True)
    project: str = Field(sa_type=Text, primary_key=True)
    model: str = Field(sa_type=Text, primary_key=True)
    upstream: str = Field(sa_type=Text, primary_key=True)
    requests: int = _count()
    failed: int = _count()
    input_tokens: int = _count()
    cached_tokens: int = _count()
    output_tokens: int = _count()
    estimated_tokens: int = _count()
    cost: Decimal = Field(sa_column=Column(Numeric, nullable=False))


class LoggedRequestRow(SQLModel, table=True):
    __tablename__ = "request_log"
    __table_args__ = (
        CheckConstraint("json_typeof(request) = 'object'", name="request_log_request_object"),
        Index("request_log_by_project", "project", "number"),
        Index("request_log_by_time", "at"),
    )

    number: int | None = Field(
        default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True, nullable=False)
    )
    request_id: str = Field(sa_type=Text)
    at: dt.datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    project: str = Field(sa_type=Text)
    key_id: str = Field(sa_type=Text)
    model: str = Field(sa_type=Text)
    asked: str = Field(sa_type=Text)
    upstream: str = Field(sa_type=Text)
    status: int
    seconds: float = Field(sa_column=Column(Float, nullable=False))
    input_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    output_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    decision_id: str | None = Field(default=None, sa_type=Text)
    request: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    answer: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
