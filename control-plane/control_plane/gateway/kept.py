"""What a gateway tells, as narrow as what can be stored and read again. An item that is none of these is left out."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, ConfigDict, Field

from imts_shared.contracts.routes import Candidate, Decision, Feedback, Result
from imts_shared.contracts.usage import GatewayReport, LoggedRequest, Used

_MOST = 10**15
_BOUNDS = Field(ge=datetime(1, 1, 2, tzinfo=UTC), le=datetime(9999, 12, 30, tzinfo=UTC))
"""Every zone's time between these is one of Python's in UTC too."""
Moment = Annotated[datetime, _BOUNDS]
Count = Annotated[int, Field(ge=0, le=_MOST)]
Amount = Annotated[float, Field(ge=0, le=_MOST)]
Name = Annotated[str, Field(max_length=100)]
Model = Annotated[str, Field(max_length=300)]
"""Names that stand in an index: an entry of one has no room for more."""
_FINITE = ConfigDict(allow_inf_nan=False)
"""Infinity is no JSON: it would be written as null, and not be understood by who reads it."""


class KeptUsed(Used):
    model_config = _FINITE

    key_id: Name
    project: Name
    model: Model
    upstream: Name
    requests: Count = 0
    failed: Count = 0
    input_tokens: Count = 0
    cached_tokens: Count = 0
    output_tokens: Count = 0
    estimated_tokens: Count = 0
    cost: Amount = 0.0


class KeptCandidate(Candidate):
    model_config = _FINITE


class KeptResult(Result):
    model_config = _FINITE

    cost: Amount | None = None
    latency_seconds: Amount | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None


class KeptDecision(Decision):
    model_config = _FINITE

    decision_id: Name
    project: Name
    route: Name
    candidates: list[KeptCandidate]  # type: ignore[assignment]  # nobody appends to it
    result: KeptResult | None = None
    at: Moment


class KeptFeedback(Feedback):
    model_config = _FINITE

    rating: Annotated[int, Field(ge=1, le=5)] | None = None
    quality: Annotated[float, Field(ge=0, le=1)] | None = None
    weight: Annotated[float, Field(ge=0, le=1_000)] = 1.0
    result: KeptResult | None = None
    at: Annotated[AwareDatetime, _BOUNDS]


class KeptRequest(LoggedRequest):
    model_config = _FINITE

    project: Name
    status: Annotated[int, Field(ge=0, le=2**31 - 1)]
    seconds: float
    input_tokens: Count
    output_tokens: Count
    at: Moment


class KeptReport(GatewayReport):
    number: Annotated[int, Field(ge=1, le=2**63 - 1)]
