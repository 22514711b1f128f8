"""What another policy would have been worth, from decisions that were logged with their propensities.

Three estimates. IPS weighs each answer by how much likelier the policy is to choose that model than the log was; SNIPS
divides by the sum of these weights; the doubly robust one takes a model of the answers and corrects it by IPS, so that
it is right if either is. Where the log never tried what the policy wants, no number can be trusted: that is said, and
where it tried it on no record at all there is none."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference_service.routing.decision import Offer, Outcome, Route
from inference_service.routing.features import CONTEXT_SIZE, Features
from inference_service.routing.learner import Learner

UNSUPPORTED_AT_MOST: Final = 0.01
EFFECTIVE_AT_LEAST: Final = 30.0
FOLDS: Final = 2
RIDGE: Final = 3.0

Chances = Mapping[str, float]
Policy = Callable[["Logged"], Chances]
Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Logged:
    """A decision and what came of it; `quality` is None where nobody ever said."""

    model: str
    features: Features
    propensities: Chances
    at: float
    quality: float | None
    cost: float | None = None
    latency: float | None = None
    costs: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimate:
    value: float
    error: float

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "standardError": self.error}


@dataclass(frozen=True, slots=True)
class Value:
    """`why_not` says why nothing can be concluded; `logged` is what the log itself reached on the same requests. No
    estimate is there where the policy would have chosen the log's model in no record: it would be a guess alone."""

    records: int
    effective: float
    unsupported: float
    logged: Estimate | None
    ips: Estimate | None
    snips: Estimate | None
    doubly_robust: Estimate | None
    why_not: str | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "effectiveSampleSize": self.effective,
            "unsupportedShare": self.unsupported,
            "conclusive": self.why_not is None,
            "whyNot": self.why_not,
            "logged": self.logged and self.logged.as_dict(),
            "ips": self.ips and self.ips.as_dict(),
            "snips": self.snips and self.snips.as_dict(),
            "doublyRobust": self.doubly_robust and self.doubly_robust.as_dict(),
        }


def fixed(model: str) -> Policy:
    return lambda logged: {model: 1.0}


def uniform(logged: Logged) -> Chances:
    return {model: 1.0 / len(logged.propensities) for model in logged.propensities}


def cheapest(logged: Logged) -> Chances:
    """By the cost that was expected of each candidate; one of unknown cost is taken for the dearest."""
    costs = {model: logged.costs.get(model) for model in logged.propensities}
    known = {model: cost for model, cost in costs.items() if cost is not None}
    return {min(known, key=known.__getitem__) if known else min(costs): 1.0}


def replayed(route: Route, seed: int = 0) -> Policy:
    """A learner that starts anew and knows at each request only what the log had told by then: ask in order of time."""
    learner = Learner(route)
    random = np.random.default_rng(seed)

    def policy(logged: Logged) -> Chances:
        offers = [Offer(model, cost=logged.costs.get(model)) for model in logged.propensities]
        chances = {each.model: each.propensity for each in learner.explain(logged.features, offers, random).candidates}
        learner.learn(
            Outcome(
                logged.model,
                logged.features,
                logged.at,
                quality=logged.quality,
                cost=logged.cost,
                latency=logged.latency,
            )
        )
        return chances

    return policy


def evaluate(log: Iterable[Logged], policy: Policy, reward: Callable[[Logged], float | None] | None = None) -> Value:
    """`reward` is what is valued; it is None where it is not known (these records only teach). Quality by default."""
    of = reward or (lambda logged: logged.quality)
    asked = [(logged, policy(logged)) for logged in sorted(log, key=lambda logged: logged.at)]
    known = [(logged, chances, value) for logged, chances in asked if (value := of(logged)) is not None]
    if not known:
        return Value(0, 0.0, 0.0, None, None, None, None, "no record says what came of it")
    records = [logged for logged, _, _ in known]
    wanted = [chances for _, chances, _ in known]
    values = np.array([value for _, _, value in known])
    unsupported = float(np.mean([_unsupported(logged, chances) for logged, chances, _ in known]))
    weights = np.array(
        [
            chances.get(logged.model, 0.0) / max(logged.propensities.get(logged.model, 0.0), 1e-9)
            for logged, chances, _ in known
        ]
    )
    squares = float((weights**2).sum())
    if squares == 0:
        why_not = _why_not(unsupported, 0.0, _never_offered(records, wanted))
        return Value(len(known), 0.0, unsupported, _estimate(values), None, None, None, why_not)
    effective = float(weights.sum()) ** 2 / squares
    snips = float((weights * values).sum() / weights.sum())
    error = math.sqrt(float((weights**2 * (values - snips) ** 2).sum())) / float(weights.sum())
    return Value(
        len(known),
        effective,
        unsupported,
        _estimate(values),
        _estimate(weights * values),
        Estimate(snips, error),
        _estimate(_doubly_robust(records, wanted, values, weights)),
        _why_not(unsupported, effective),
    )


def _never_offered(records: Sequence[Logged], wanted: Sequence[Chances]) -> str | None:
    """The one model that the policy wants, where the log never had it to choose from."""
    models = {model for chances in wanted for model in chances}
    offered = {model for logged in records for model in logged.propensities}
    return models.pop() if len(models) == 1 and models.isdisjoint(offered) else None


def _why_not(unsupported: float, effective: float, never_offered: str | None = None) -> str | None:
    if never_offered is not None:
        return (
            f"in 100% of its choices the policy wants `{never_offered[:100]}`, which was never a candidate here:"
            " check the name, or let the route explore it first"
        )
    if unsupported > UNSUPPORTED_AT_MOST:
        return (
            f"in {unsupported:.0%} of its choices the policy wants a model that the log could not have chosen:"
            " let the route explore it first"
        )
    if effective < EFFECTIVE_AT_LEAST:
        return (
            f"the records are worth only {effective:.0f} of their kind, at least {EFFECTIVE_AT_LEAST:.0f} are needed:"
            " wait for more feedback, or let the route explore more"
        )
    return None


def _unsupported(logged: Logged, chances: Chances) -> float:
    return sum(chance for model, chance in chances.items() if logged.propensities.get(model, 0.0) <= 0.0)


def _estimate(values: Array) -> Estimate:
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Estimate(float(values.mean()), error)


def _doubly_robust(records: Sequence[Logged], wanted: Sequence[Chances], values: Array, weights: Array) -> Array:
    """What is foretold of a record comes from a model of the other half of the records."""
    contexts = np.array([logged.features.context for logged in records])
    half = np.arange(len(records)) % FOLDS
    found = np.zeros(len(records))
    for fold in range(FOLDS):
        taught, asked = half != fold, half == fold
        middle = float(values[taught].mean()) if taught.any() else float(values.mean())
        models = {model for chances in wanted for model in chances} | {logged.model for logged in records}
        foretold = {
            model: middle + contexts @ _fitted(contexts, values - middle, taught & _of(records, model))
            for model in models
        }
        for at in np.flatnonzero(asked).tolist():
            expected = sum(chance * float(foretold[model][at]) for model, chance in wanted[at].items())
            found[at] = expected + weights[at] * (values[at] - float(foretold[records[at].model][at]))
    return found


def _of(records: Sequence[Logged], model: str) -> npt.NDArray[np.bool_]:
    return np.array([logged.model == model for logged in records])


def _fitted(contexts: Array, differences: Array, chosen: npt.NDArray[np.bool_]) -> Array:
    seen = contexts[chosen]
    fitted: Array = np.linalg.solve(seen.T @ seen + RIDGE * np.eye(CONTEXT_SIZE), seen.T @ differences[chosen])
    return fitted
