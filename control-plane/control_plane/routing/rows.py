"""The tables of routes, decisions, feedback and lessons."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Float, ForeignKey, Identity, Index, Text, text
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlmodel import Field, SQLModel


def _time() -> Any:
    return Field(sa_column=Column(DateTime(timezone=True), nullable=False))


def _json(*, null: bool = False) -> Any:
    return Field(default=None, sa_column=Column(JSONB(none_as_null=True), nullable=null))


def _text_json() -> Any:
    """What is only passed on: Postgres keeps it as it is written, which costs half of what JSONB does."""
    return Field(default=None, sa_column=Column(JSON, nullable=False))


def _weight() -> Any:
    return Field(default=1.0, sa_column=Column(Float, nullable=False, server_default="1"))


def _number() -> Any:
    return Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True, nullable=False))


class RouteRow(SQLModel, table=True):
    __tablename__ = "routes"
    __table_args__ = (
        CheckConstraint("name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'", name="routes_name_plain"),
        CheckConstraint("jsonb_typeof(settings) = 'object'", name="routes_settings_object"),
    )

    project: str = Field(sa_column=Column(Text, ForeignKey("projects.name"), primary_key=True, nullable=False))
    name: str = Field(sa_type=Text, primary_key=True)
    settings: dict[str, Any] = _json()
    created_at: datetime = _time()
    updated_at: datetime = _time()


class DecisionRow(SQLModel, table=True):
    """No foreign keys: what a gateway decided was decided, whatever was deleted meanwhile."""

    __tablename__ = "routing_decisions"
    __table_args__ = (
        CheckConstraint("json_typeof(features) = 'object'", name="routing_decisions_features_object"),
        CheckConstraint("json_typeof(candidates) = 'array'", name="routing_decisions_candidates_array"),
        CheckConstraint("jsonb_typeof(result) = 'object'", name="routing_decisions_result_object"),
        Index("routing_decisions_by_route", "project", "route", "at", "decision_id"),
        Index("routing_decisions_by_time", "at", "decision_id"),
    )

    decision_id: str = Field(sa_type=Text, primary_key=True)
    gateway: str = Field(sa_type=Text)
    project: str = Field(sa_type=Text)
    route: str = Field(sa_type=Text)
    model: str = Field(sa_type=Text)
    policy: str = Field(sa_type=Text)
    reason: str = Field(sa_type=Text)
    features: dict[str, Any] = _text_json()
    context: list[float] = _text_json()
    candidates: list[dict[str, Any]] = _text_json()
    key_id: str | None = Field(default=None, sa_type=Text)
    asked: str | None = Field(default=None, sa_type=Text)
    result: dict[str, Any] | None = _json(null=True)
    at: datetime = _time()


class FeedbackRow(SQLModel, table=True):
    __tablename__ = "routing_feedback"
    __table_args__ = (
        CheckConstraint("rating BETWEEN 1 AND 5", name="routing_feedback_rating_known"),
        CheckConstraint("quality BETWEEN 0 AND 1", name="routing_feedback_quality_share"),
        Index("routing_feedback_by_decision", "decision_id", "number"),
        Index(
            "routing_feedback_rated_once",
            "decision_id",
            "key_id",
            unique=True,
            postgresql_where=text("rating IS NOT NULL"),
        ),
    )

    number: int | None = _number()
    decision_id: str = Field(
        sa_column=Column(Text, ForeignKey("routing_decisions.decision_id", ondelete="CASCADE"), nullable=False)
    )
    signal: str = Field(sa_type=Text)
    rating: int | None = None
    quality: float | None = Field(default=None, sa_column=Column(Float, nullable=True))
    weight: float = _weight()
    label: str | None = Field(default=None, sa_type=Text)
    comment: str | None = Field(default=None, sa_type=Text)
    key_id: str | None = Field(default=None, sa_type=Text)
    result: dict[str, Any] | None = _json(null=True)
    at: datetime = _time()


class LessonRow(SQLModel, table=True):
    """Numbered in the order of their commits: see routing.lessons."""

    __tablename__ = "routing_lessons"
    __table_args__ = (
        CheckConstraint("quality BETWEEN 0 AND 1", name="routing_lessons_quality_share"),
        Index("routing_lessons_by_route", "project", "route", "number"),
    )

    number: int | None = _number()
    gateway: str = Field(sa_type=Text)
    project: str = Field(sa_type=Text)
    route: str = Field(sa_type=Text)
    model: str = Field(sa_type=Text)
    decision_id: str = Field(sa_type=Text)
    features: dict[str, Any] = _text_json()
    context: list[float] = _text_json()
    quality: float | None = Field(default=None, sa_column=Column(Float, nullable=True))
    weight: float = _weight()
    result: dict[str, Any] | None = _json(null=True)
    label: str | None = Field(default=None, sa_type=Text)
    key_id: str | None = Field(default=None, sa_type=Text)
    asked: str | None = Field(default=None, sa_type=Text)
    at: datetime = _time()
