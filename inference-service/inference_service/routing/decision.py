"""What is decided about a request, from what, and what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from inference_service.routing.beliefs import Belief
from inference_service.routing.features import Features
from inference_service.routing.pacing import Budget

POLICIES: Final = ("thompson", "linucb")


@dataclass(frozen=True, slots=True)
class Route:
    """How a route weighs things. `cost_weight` is the quality (0 to 1) that one unit of money is worth,
    `latency_weight` the same of one second. With a `quality_target` the cheapest model that reaches it is asked."""

    name: str
    policy: str = "thompson"
    cost_weight: float = 0.0
    latency_weight: float = 0.0
    quality_target: float | None = None
    budget: Budget | None = None
    beliefs: tuple[Belief, ...] = ()
    exploration: float = 0.02
    unsure_below: float = 0.6

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"policy: `{self.policy}` is none of {', '.join(POLICIES)}")
        if self.cost_weight < 0:
            raise ValueError(f"costWeight: {self.cost_weight} is less than 0")
        if self.latency_weight < 0:
            raise ValueError(f"latencyWeight: {self.latency_weight} is less than 0")
        if self.quality_target is not None and not 0 < self.quality_target <= 1:
            raise ValueError(f"qualityTarget: {self.quality_target} is not above 0 and at most 1")
        if not 0 <= self.exploration <= 0.5:
            raise ValueError(f"exploration: {self.exploration} is not from 0 to 0.5")


@dataclass(slots=True)
class Offer:
    """A model that may be asked. What it will cost and take, where that is known beforehand; `worst_cost` is what it
    can cost at most (a hard budget that must not be overrun needs it). `open_ended`: nothing bounds it, so it may also
    cost as much as the dearest request of lately."""

    model: str
    cost: float | None = None
    worst_cost: float | None = None
    latency: float | None = None
    open_ended: bool = False


@dataclass(slots=True)
class Candidate:
    """`score` is what is expected of the model less what it costs."""

    model: str
    score: float
    propensity: float
    expected_quality: float
    expected_cost: float | None
    expected_latency: float | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "score": round(self.score, 4),
            "propensity": self.propensity,
            "expectedQuality": round(self.expected_quality, 4),
            "expectedCost": self.expected_cost,
            "expectedLatency": self.expected_latency,
        }


@dataclass(slots=True)
class Decision:
    """`propensity` of each candidate is the chance that it had of being chosen. `held` goes into the outcome;
    `worst_cost` is that of the dearest candidate, where there is a budget."""

    model: str
    reason: str
    policy: str
    candidates: list[Candidate]
    unsure: bool = False
    held: int | None = None
    worst_cost: float = 0.0

    @property
    def propensity(self) -> float:
        return next(each.propensity for each in self.candidates if each.model == self.model)

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "reason": self.reason,
            "policy": self.policy,
            "unsure": self.unsure,
            "candidates": [each.as_dict() for each in self.candidates],
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request, or what is said of it later (`request=False`): of each thing what is known.

    `weight` is how much the quality can be trusted: 1 for a person's rating, less for a sign that is guessed from."""

    model: str
    features: Features
    at: float
    quality: float | None = None
    weight: float = 1.0
    cost: float | None = None
    latency: float | None = None
    failed: bool = False
    request: bool = True
    held: int | None = None

    def __post_init__(self) -> None:
        """One number that is none would spoil all that is known of a model."""
        if self.quality is not None and not 0 <= self.quality <= 1:
            raise ValueError(f"quality: {self.quality} is not between 0 and 1")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight: {self.weight} is not between 0 and 1")
        if self.cost is not None and not 0 <= self.cost < math.inf:
            raise ValueError(f"cost: {self.cost} is no amount of money")
        if self.latency is not None and not 0 <= self.latency < math.inf:
            raise ValueError(f"latency: {self.latency} is no time in seconds")

    def record(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "features": self.features.record(),
            "at": self.at,
            "quality": self.quality,
            "weight": self.weight,
            "cost": self.cost,
            "latency": self.latency,
            "failed": self.failed,
            "request": self.request,
        }


def quality_of_rating(rating: float) -> float:
    """One to five stars."""
    return min(max((rating - 1) / 4, 0.0), 1.0)


def outcome_from_record(record: Mapping[str, Any], features: Features) -> Outcome:
    return Outcome(
        model=record["model"],
        features=features,
        at=record["at"],
        quality=record["quality"],
        weight=record["weight"],
        cost=record["cost"],
        latency=record["latency"],
        failed=record["failed"],
        request=record["request"],
    )


def redecided(decision: Decision, model: str, propensities: list[float], reason: str, policy: str) -> Decision:
    candidates = [
        replace(candidate, propensity=propensity)
        for candidate, propensity in zip(decision.candidates, propensities, strict=True)
    ]
    return replace(decision, model=model, reason=reason, policy=policy, candidates=candidates)
