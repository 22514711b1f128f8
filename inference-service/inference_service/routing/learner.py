"""A route: it decides, is told what came of it, and learns."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from inference_service.routing.bandit import Bandit, linucb, thompson
from inference_service.routing.decision import Candidate, Decision, Offer, Outcome, Route
from inference_service.routing.features import Features
from inference_service.routing.history import History
from inference_service.routing.pacing import Pacer
from inference_service.routing.reasons import reason

STATE_VERSION: Final = 2
CHEAPER_IS_BETTER: Final = 0.01
"""With a quality target, between models that reach it: the dearest is worth so much less than a free one."""
FAILED_QUALITY: Final = 0.0


class Learner:
    def __init__(self, route: Route, pacer: Pacer | None = None) -> None:
        """`pacer`: one that paces the same budget already."""
        self.route: Final = route
        self.pacer: Final = pacer or (Pacer(route.budget) if route.budget else None)
        self._bandit: Final = Bandit(route.beliefs)
        self._history: Final = History()

    def decide(
        self,
        features: Features,
        offers: Sequence[Offer],
        now: float,
        random: np.random.Generator,
        affords: float = math.inf,
    ) -> Decision | None:
        """None: the budget affords none of them. What the chosen one may cost is held until its outcome is learnt.
        `affords`: what is left of the budget, where somebody knows of less than is known here."""
        if not offers:
            raise ValueError("candidates: there is no model to choose from")
        costs, worst = self._costs(features, offers)
        if self.pacer is not None:
            left = max(min(self.pacer.left(now), affords), 0.0)
            kept = [number for number, amount in enumerate(worst) if amount <= left]
            if not kept:
                return None
            offers, costs, worst = [offers[at] for at in kept], [costs[at] for at in kept], [worst[at] for at in kept]
        decision, chosen = self._choose(features, offers, costs, random)
        if self.pacer is not None:
            decision.held = self.pacer.hold(worst[chosen], now)
            decision.worst_cost = max(worst)
        return decision

    def explain(self, features: Features, offers: Sequence[Offer], random: np.random.Generator) -> Decision:
        """What would be decided, as if there were no end to the budget; nothing is held."""
        costs, _ = self._costs(features, offers)
        return self._choose(features, offers, costs, random)[0]

    def give_back(self, decision: Decision) -> None:
        """What was held for a decision that came to nothing."""
        if self.pacer is not None and decision.held is not None:
            self.pacer.release(decision.held)

    def learn(self, outcome: Outcome) -> None:
        """Own outcomes and those of other replicas, in whatever order they come."""
        if self.pacer is not None:
            if outcome.held is not None:
                self.pacer.release(outcome.held)
            if outcome.cost is not None:
                self.pacer.spend(outcome.cost, outcome.at)
        quality = FAILED_QUALITY if outcome.failed and outcome.quality is None else outcome.quality
        self._history.add(
            outcome.model,
            outcome.features,
            request=outcome.request,
            failed=outcome.failed,
            quality=quality,
            cost=outcome.cost,
            latency=outcome.latency,
        )
        if quality is not None and outcome.weight > 0:
            self._bandit.learn(outcome.model, outcome.features, quality, outcome.weight)

    def stats(self) -> dict[str, Any]:
        return dict(self._history.statistics())

    def to_state(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "bandit": self._bandit.to_state(),
            "history": self._history.to_state(),
            "pacer": self.pacer.to_state() if self.pacer else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        if state.get("version") != STATE_VERSION:
            raise ValueError(f"version: the state of route `{self.route.name}` is not of version {STATE_VERSION}")
        self._bandit.restore(state["bandit"])
        self._history.restore(state["history"])
        if self.pacer is not None and state.get("pacer") is not None:
            self.pacer.restore(state["pacer"])

    def _costs(
        self, features: Features, offers: Sequence[Offer]
    ) -> tuple[list[tuple[float | None, float | None]], list[float]]:
        history = self._history
        expected = [history.expected(offer.model, features, offer.cost, offer.latency) for offer in offers]
        if self.pacer is None:
            return expected, []
        worst = [self._worst(offer, cost or 0.0) for offer, (cost, _) in zip(offers, expected, strict=True)]
        return expected, worst

    def _worst(self, offer: Offer, expected: float) -> float:
        if offer.worst_cost is not None and not offer.open_ended:
            return offer.worst_cost
        return max(offer.worst_cost or 0.0, self._history.worst_cost(offer.model), expected)

    def _choose(
        self,
        features: Features,
        offers: Sequence[Offer],
        costs: list[tuple[float | None, float | None]],
        random: np.random.Generator,
    ) -> tuple[Decision, int]:
        route = self.route
        models = tuple([offer.model for offer in offers])
        outlook = self._bandit.outlook(models, features)
        burden = self._burden(costs)
        if len(models) == 1:
            shares = [1.0]
        elif route.policy == "thompson":
            shares = thompson(outlook, route.quality_target, burden, random)
        else:
            shares = linucb(outlook, route.quality_target, burden)
        floor = route.exploration / len(models)
        rest = 1.0 - route.exploration
        propensities = [rest * share + floor for share in shares]
        chosen = _drawn(propensities, random.random())
        target = math.inf if route.quality_target is None else route.quality_target
        scores = [min(one, target) - less for one, less in zip(outlook.expected, burden, strict=True)]
        candidates = [
            Candidate(model, score, propensity, min(max(quality, 0.0), 1.0), cost, latency)
            for model, score, propensity, quality, (cost, latency) in zip(
                models, scores, propensities, outlook.expected, costs, strict=True
            )
        ]
        why = reason(
            route,
            features,
            candidates,
            chosen,
            scores.index(max(scores)),
            self._bandit.answers(models[chosen]),
            self.pacer.pressure if self.pacer else 0.0,
        )
        unsure = max(shares) < route.unsure_below
        return Decision(models[chosen], why, route.policy, candidates, unsure), chosen

    def _burden(self, costs: list[tuple[float | None, float | None]]) -> list[float]:
        """What money and time take from each candidate's worth. One of unknown cost is taken for the dearest."""
        route = self.route
        dearest = max([cost for cost, _ in costs if cost is not None], default=0.0)
        slowest = max([latency for _, latency in costs if latency is not None], default=0.0)
        a_unit = route.cost_weight + (self.pacer.price() if self.pacer else 0.0)
        if route.quality_target is not None and dearest > 0:
            a_unit += CHEAPER_IS_BETTER / dearest
        return [
            a_unit * (dearest if cost is None else cost)
            + route.latency_weight * (slowest if latency is None else latency)
            for cost, latency in costs
        ]


def _drawn(propensities: list[float], number: float) -> int:
    for at, propensity in enumerate(propensities):
        number -= propensity
        if number < 0:
            return at
    return len(propensities) - 1


def from_state(route: Route, state: Mapping[str, Any]) -> Learner:
    learner = Learner(route)
    learner.restore(state)
    return learner
