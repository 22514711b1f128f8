"""What the gateway answers, beyond the contracts that services share."""

from typing import Any

from pydantic import AliasChoices, Field

from imts_shared.contracts.base import Answer


class Accepted(Answer):
    """The gateway has it: it moves the statistics now."""

    decision_id: str
    accepted: bool


class ModelStats(Answer):
    """What a route knows of a model: in all, in one language, or in one domain."""

    model: str
    language: str | None = None
    domain: str | None = None
    requests: float = 0
    failures: float = 0
    quality: float | None = None
    quality_count: float = Field(0, description="How many answers the quality is known of.")
    latency_seconds: float | None = Field(None, validation_alias=AliasChoices("latencySeconds", "latency"))
    cost: float | None = None


class RouteStats(Answer):
    name: str
    project: str
    models: list[ModelStats]
    languages: list[ModelStats] = Field(default_factory=list)
    domains: list[ModelStats] = Field(default_factory=list)


class RoutingStats(Answer):
    routes: list[RouteStats]


class PolicyValue(Answer):
    """What a policy would have been worth; no value where the decisions that are kept cannot tell."""

    policy: str
    value: float | None = None
    standard_error: float | None = None
    effective_samples: float | None = None
    note: str | None = None


class Evaluation(Answer):
    decisions: int
    policies: list[PolicyValue]
    note: str | None = None
    """What was left out."""


class ChatAnswer(Answer):
    model: str
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    decision_id: str | None = None
    usage: dict[str, Any] | None = None
