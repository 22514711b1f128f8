"""What was asked of models, counted."""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StringConstraints

from imts_shared.contracts.base import Answer, ProjectName, Request
from imts_shared.contracts.providers import ModelName
from imts_shared.contracts.routes import Decision, Feedback, RouteName


class Used(Answer):
    """Counts of one key, model and upstream on one day, in UTC."""

    day: date
    key_id: str
    project: str
    model: str = Field(description="The one that answered.")
    upstream: str = Field(description="A provider's name, or `deployment`.")
    requests: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    estimated_tokens: int = Field(0, description="Those among them that no upstream told: of answers that were cut.")
    cost: float = 0.0


class UsageLine(Answer):
    """null: counted together."""

    day: date | None = None
    key_id: str | None = None
    key_name: str | None = None
    project: str | None = None
    model: str | None = None
    upstream: str | None = None
    requests: int
    failed: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    estimated_tokens: int
    total_tokens: int
    cost: float


class UsagePage(Answer):
    items: list[UsageLine]
    total: UsageLine
    next_cursor: str | None = None


class LoggedRequest(Answer):
    """One request, as the project wants it kept: without its content, or with it after redaction."""

    request_id: str
    at: datetime
    project: str
    key_id: str
    model: str
    asked: str = Field(description="The name that the caller asked for: a model's or a route's.")
    upstream: str
    status: int
    seconds: float
    input_tokens: int
    output_tokens: int
    decision_id: str | None = None
    request: dict[str, Any] | None = None
    answer: dict[str, Any] | None = Field(None, description="The message that the model said.")


class LoggedRequestPage(Answer):
    items: list[LoggedRequest]
    next_cursor: str | None = None


class RequestsDatasetRequest(Request):
    """Which logged requests become a data set: those kept in full that were answered."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    project: ProjectName | None = None
    model: ModelName | None = Field(None, description="Only those that it answered.")
    route: RouteName | None = Field(None, description="Only those that asked for it.")
    from_: AwareDatetime | None = Field(None, alias="from")
    to: AwareDatetime | None = None
    min_rating: Annotated[int, Field(ge=1, le=5)] | None = Field(
        None, description="Only those that were rated so well."
    )


class GatewayReport(Answer):
    """What a gateway has to tell, in numbered parts that are applied once: a part whose number is not above the last
    one of this gateway's life is answered like the first time and changes nothing."""

    gateway: str = Field(min_length=8, max_length=100, description="One life of one gateway process.")
    number: int = Field(ge=1)
    used: list[Used] = Field(default_factory=list)
    decisions: list[Decision] = Field(default_factory=list)
    feedback: list[Feedback] = Field(default_factory=list)
    requests: list[LoggedRequest] = Field(default_factory=list)


class ReportAnswer(Answer):
    number: int = Field(description="The newest part that is applied.")
    unknown_decisions: list[str] = Field(default_factory=list, description="Feedback on these was not kept.")
    left_out: int = Field(0, description="So many items could not be kept; what and why is in the control plane's log.")


class SpentScope(Answer):
    """What Redis is filled with again after it forgot."""

    scope: str = Field(description="key:<id>, project:<name> or route:<project>/<name>")
    period_start: datetime
    tokens: int
    money: float
