"""Routes: names whose model the gateway chooses for each request, and what it learns by."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import AwareDatetime, Field, StringConstraints

from imts_shared.contracts.base import Answer, ProjectName, Request
from imts_shared.contracts.limits import Money, Period
from imts_shared.contracts.providers import ModelName

AUTO = "auto"
"""The route that every project has, over all of its models, unless it makes one of its own by this name."""
Language = Literal["zh", "en", "de", "fr", "es", "ru", "ja", "ko", "other"]
Domain = Literal[
    "code", "extraction", "finance", "general", "law", "math", "medicine", "science", "support", "translation",
    "writing",
]  # fmt: skip
LANGUAGES: tuple[str, ...] = get_args(Language)
DOMAINS: tuple[str, ...] = get_args(Domain)
"""What requests are told apart by."""
RouteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Policy(StrEnum):
    thompson = "thompson"
    linucb = "linucb"


class Belief(Request):
    """What is thought of a model before anything is known; the most specific one counts."""

    model: ModelName
    language: Language | None = None
    domain: Domain | None = None
    quality: Share
    strength: Annotated[float, Field(gt=0, le=1_000)] = Field(5, description="As many answers it weighs.")


class Judge(Request):
    """A model that is asked where the statistics leave it open."""

    model: ModelName
    timeout_ms: Annotated[int, Field(ge=10, le=60_000)] = 1_000


class RouteSettings(Request):
    models: list[ModelName] = Field(
        default_factory=list, max_length=100, description="Among which it chooses; empty: all that a caller may ask."
    )
    policy: Policy = Policy.thompson
    cost_weight: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        0, description="How much quality (0 to 1) one unit of money for a request is worth."
    )
    latency_weight: Annotated[float, Field(ge=0, le=1_000)] = Field(
        0, description="How much quality (0 to 1) a second is worth."
    )
    quality_target: Share | None = Field(None, description="The cheapest model that is expected to reach it.")
    budget: Annotated[Money, Field(gt=0)] | None = Field(
        None, description="Money in a period; the spending keeps its pace."
    )
    budget_period: Period = Period.day
    judge: Judge | None = None
    beliefs: list[Belief] = Field(default_factory=list, max_length=1_000)


class RouteRequest(RouteSettings):
    name: RouteName
    project: ProjectName | None = None


class Route(RouteSettings):
    name: str
    project: str
    created_at: datetime
    updated_at: datetime


class RoutePage(Answer):
    items: list[Route]
    next_cursor: str | None = None


class Candidate(Answer):
    model: str
    score: float
    propensity: float
    quality: float | None = Field(None, description="As expected, 0 to 1.")
    cost: float | None = None
    latency_seconds: float | None = None


class Result(Answer):
    """What came of a decision, as far as it shows by itself."""

    failed: bool = Field(False, description="The model that was chosen failed, whoever answered then.")
    model: str | None = Field(None, description="The one that answered, where that is another than was chosen.")
    cost: float | None = None
    latency_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class Decision(Answer):
    decision_id: str
    model: str
    reason: str
    route: str = AUTO
    project: str
    policy: str
    features: dict[str, Any]
    context: list[float] = Field(default_factory=list, description="What the statistics were asked with.")
    candidates: list[Candidate]
    at: datetime
    key_id: str | None = None
    asked: str | None = Field(None, description="The same for requests that say the same.")
    result: Result | None = None


class FeedbackRequest(Request):
    decision_id: str = Field(min_length=1, max_length=100)
    rating: Annotated[int, Field(ge=1, le=5)] | None = None
    comment: str | None = Field(None, max_length=10_000)
    label: str | None = Field(
        None,
        max_length=200,
        description="What the request really was: a domain, or simple, medium, hard. Any other word is kept as a note.",
    )


class ResultRequest(Request):
    """What a proxy of one's own says of a decision that it asked for."""

    decision_id: str = Field(min_length=1, max_length=100)
    failed: bool = False
    cost: Annotated[float, Field(ge=0)] | None = None
    latency_seconds: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    input_tokens: Annotated[int, Field(ge=0)] | None = None
    output_tokens: Annotated[int, Field(ge=0)] | None = None


class Feedback(Answer):
    decision_id: str
    rating: int | None = None
    comment: str | None = None
    label: str | None = None
    quality: float | None = Field(None, description="0 to 1, for what the platform noticed by itself.")
    signal: str = Field("rating", description="rating, reported, regenerated")
    result: Result | None = Field(None, description="What the caller says came of it, who asked the model himself.")
    project: str | None = Field(None, description="Whose decision it must be; null: anybody's.")
    weight: float = Field(1.0, description="How much the quality can be trusted: a person's rating 1, a guess less.")
    key_id: str | None = None
    at: AwareDatetime


class DecisionLine(Decision):
    """A decision with what was said of it since."""

    feedback: list[Feedback] = Field(default_factory=list)


class DecisionPage(Answer):
    items: list[DecisionLine]
    next_cursor: str | None = None


class Lesson(Answer):
    """One thing to learn from, as gateways tell it to each other. They come in one order, and each once."""

    number: int
    gateway: str = Field(description="Who has learned it already.")
    project: str
    route: str
    model: str
    decision_id: str
    features: dict[str, Any]
    context: list[float]
    quality: float | None = None
    weight: float = 1.0
    result: Result | None = None
    label: str | None = None
    key_id: str | None = Field(None, description="Who has asked or judged.")
    asked: str | None = Field(None, description="The decision's.")
    at: datetime


class Lessons(Answer):
    items: list[Lesson]
    number: int = Field(description="Ask for those after this one next.")
    more: bool = Field(False, description="There are more at once.")
