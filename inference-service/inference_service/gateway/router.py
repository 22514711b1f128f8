"""Which model a route takes for a request, and what comes of it."""

import math
import random
import time
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from imts_shared.contracts.limits import Limits, Period
from imts_shared.contracts.routes import (
    AUTO,
    Feedback,
    FeedbackRequest,
    Lesson,
    Result,
    ResultRequest,
    RouteSettings,
)
from inference_service.gateway import bodies, metrics
from inference_service.gateway.afterwards import Afterwards
from inference_service.gateway.claims import OnBehalf
from inference_service.gateway.counting import Tokens
from inference_service.gateway.decided import Decided, Remembered, record_of
from inference_service.gateway.directory import Caller, Directory, Model
from inference_service.gateway.elsewhere import Elsewhere, already_rated
from inference_service.gateway.errors import Refusal
from inference_service.gateway.judge import Judge
from inference_service.gateway.learners import DEFAULT, Learners
from inference_service.gateway.ledger import Ledger
from inference_service.gateway.orders import Order
from inference_service.gateway.quota import FREE, MARGIN, Full, Grant, Quota, refusal
from inference_service.gateway.rehearsal import Rehearsal
from inference_service.gateway.speech import can_say
from inference_service.routing import decision as deciding
from inference_service.routing.features import Features
from inference_service.routing.learner import Learner

NO_MODEL = "no_model"
REMEMBERED = 10_000
AGAIN_SECONDS = 600.0
AGAIN_QUALITY = 0.25
AGAIN_WEIGHT = 0.3
"""Who asks the same once more was not content, most likely."""
USUAL_OUTPUT_TOKENS = 1_024
"""Of a caller that bounds its answer by nothing."""
USUAL_REQUEST = (400, 200)
"""Tokens of a prompt and its answer, by which prices are compared until more is known."""


class Router:
    def __init__(
        self,
        directory: Directory,
        learners: Learners,
        quota: Quota,
        ledger: Ledger,
        elsewhere: Elsewhere,
        judge: Judge,
        afterwards: Afterwards,
    ) -> None:
        self._directory = directory
        self._learners = learners
        self._quota = quota
        self._ledger = ledger
        self._elsewhere = elsewhere
        self._judge = judge
        self._afterwards = afterwards
        self._random = np.random.default_rng()
        self.rehearsal = Rehearsal()
        self._made: OrderedDict[str, Remembered] = OrderedDict()
        self._found: dict[tuple[str | None, str, str], _Candidates] = {}
        self._found_in: object = None
        self._asked: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def routes(self, caller: Caller, name: str) -> tuple[str, RouteSettings] | None:
        """The project and settings of the route by this name; a model by this name comes before the built-in route."""
        project = self._directory.project_of(caller)
        settings = self._directory.route(project, name)
        if settings is not None:
            return project, settings
        if name == AUTO and self._directory.find_if_there(caller, name) is None:
            return project, DEFAULT
        return None

    async def decide(self, caller: Caller, project: str, route: str, settings: RouteSettings, order: Order) -> Decided:
        """What is held for the decision is in it, to be settled by who asked for it."""
        extractor = self._learners.extractor(project)
        features = extractor.extract(order.content)
        candidates = self._candidates(caller, route, settings, order.path)
        learner = self._learners.of(project, route)
        budget = self._learners.budget(project, route)
        offers = candidates.offers if budget is None else _bounded(candidates.models, features, order)
        choice, held = await self._afforded(project, route, budget, learner, features, offers)
        self.rehearsal.decided(extractor, learner, candidates.offers, self._random)
        judged = choice.unsure and settings.judge is not None
        if judged:
            assert settings.judge is not None
            of = OnBehalf(caller, project, route, budget, learner.pacer)
            try:
                choice = await self._judge.judged(of, settings.judge, choice, features, order.content)
            except BaseException:
                learner.give_back(choice)
                held.settle(0, 0)
                raise
        kept, at = self._remember(caller, project, route, features, choice)
        return Decided(kept, features, choice, at, held, judged)

    async def _afforded(
        self,
        project: str,
        route: str,
        budget: Limits | None,
        learner: Learner,
        features: Features,
        offers: Sequence[deciding.Offer],
    ) -> tuple[deciding.Decision, Grant]:
        """Among the models that the budget affords: as far as this gateway knows, and then by what all of them hold.
        Where the two differ it is decided anew, without the dearest."""
        scopes = self._quota.route(project, route, budget) if budget is not None else None
        affords = math.inf
        full: Full | None = None
        while (choice := self._choice(learner, features, offers, affords)) is not None:
            if scopes is None:
                return choice, FREE
            worst = choice.worst_cost
            if not worst:
                return choice, Grant(scopes, 0, 0, 0)
            try:
                at_hand = self._quota.try_admit(scopes, 1, worst / MARGIN)
                found = at_hand or await self._quota.ask(scopes, 1, worst / MARGIN)
            except BaseException:
                learner.give_back(choice)
                raise
            if isinstance(found, Grant):
                return choice, found
            learner.give_back(choice)
            full = full or found
            left = found.limit - found.spent - found.gone if found.known else 0.0
            affords = min(left, math.nextafter(worst, 0.0))
        refused = refusal(full) if full is not None else _not_afforded(route, budget)
        metrics.LIMITED.labels(refused.code or "").inc()
        raise refused

    def _choice(
        self, learner: Learner, features: Features, offers: Sequence[deciding.Offer], affords: float
    ) -> deciding.Decision | None:
        choice = learner.decide(features, offers, time.time(), self._random, affords)
        if self._afterwards and (choice is None or len(choice.candidates) < len(offers)):
            # The budget affords not all, but what it holds for requests that have ended was not spent.
            self._afterwards.all()
            if choice is not None:
                learner.give_back(choice)
            choice = learner.decide(features, offers, time.time(), self._random, affords)
        return choice

    async def analyze(
        self, caller: Caller, project: str, route: str, settings: RouteSettings, order: Order
    ) -> Remembered:
        """For one who asks the model himself, and says afterwards what came of it. Nothing is held of a budget, but
        only what fits into it is chosen."""
        features = self._learners.extractor(project).extract(order.content)
        candidates = self._candidates(caller, route, settings, order.path)
        learner = self._learners.of(project, route)
        budget = self._learners.budget(project, route)
        if budget is None:
            choice = learner.explain(features, candidates.offers, self._random)
        else:
            offers = _bounded(candidates.models, features, order)
            choice, held = await self._afforded(project, route, budget, learner, features, offers)
            learner.give_back(choice)
            held.settle(0, 0)
        made, _ = self._remember(caller, project, route, features, choice)
        made.told = True
        self._ledger.decided(made.record)
        return made

    def _candidates(self, caller: Caller, route: str, settings: RouteSettings, path: str) -> "_Candidates":
        """Looked for once for each snapshot: there may be thousands of models."""
        if self._found_in is not self._directory.changed:
            self._found_in = self._directory.changed
            self._found.clear()
        which = (caller.bound, route, path)
        found = self._found.get(which)
        if found is None:
            able = self._able(caller, settings, path)
            if not able:
                named = f" Its models are {', '.join(settings.models[:10])}." if settings.models else ""
                raise Refusal(
                    503,
                    f"The route `{route}` has no model that could answer now.{named}",
                    code=NO_MODEL,
                    headers={"retry-after": "5"},
                )
            offers = [deciding.Offer(model.name, cost=_dearest(model, *USUAL_REQUEST)) for model in able]
            found = self._found[which] = _Candidates(able, offers)
        return found

    def _able(self, caller: Caller, settings: RouteSettings, path: str) -> list[Model]:
        of_project = self._directory.of_project(caller)
        if settings.models:
            found = [self._directory.find_if_there(of_project, name) for name in settings.models]
        else:
            found = list(self._directory.models(of_project))
        able = [model for model in found if model is not None and _answers(model, path)]
        awake = [model for model in able if model.engines or model.offers]
        return awake or able

    def _remember(
        self, caller: Caller, project: str, route: str, features: Features, choice: deciding.Decision
    ) -> tuple[Remembered, float]:
        now = time.time()
        identity = f"dec-{random.getrandbits(96):024x}"
        key_id = caller.key_id
        kept = Remembered(
            identity,
            project,
            route,
            key_id,
            choice.model,
            lambda: record_of(identity, project, route, key_id, features, choice, now),
        )
        self._made[identity] = kept
        if len(self._made) > REMEMBERED:
            self._made.popitem(last=False)
        return kept, now

    def _asked_again(self, key_id: str, asked: str, decision_id: str, at: float) -> str | None:
        """Remembers that it was asked; the decision before, where the same key asked the same shortly before. What
        was asked earlier than that, and is heard of later, changes nothing."""
        before = self._asked.pop((key_id, asked), None)
        if before is not None and before[1] > at:
            self._asked[key_id, asked] = before
            return None
        self._asked[key_id, asked] = (decision_id, at)
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        return before[0] if before is not None and at - before[1] <= AGAIN_SECONDS else None

    def heard(self, lesson: Lesson) -> bool:
        """Of another gateway: what it took of a decision that was made here counts here as taken, and what was asked
        there may be asked again here. False: it was taken here as well, and is learned already."""
        made = self._made.get(lesson.decision_id)
        if made is not None:
            rated = lesson.quality is not None and lesson.key_id is not None
            if (lesson.result is not None and made.reported) or (rated and lesson.key_id in (made.raters or ())):
                return False
            made.reported = made.reported or lesson.result is not None
            if lesson.key_id is not None and lesson.quality is not None:
                made.raters = {*(made.raters or ()), lesson.key_id}
        elif lesson.key_id is not None and lesson.asked is not None:
            self._asked_again(lesson.key_id, lesson.asked, lesson.decision_id, lesson.at.timestamp())
        return True

    def finished(
        self,
        made: Decided,
        answered: str,
        tokens: Tokens,
        cost: float,
        seconds: float | None,
        *,
        failed: bool,
        tried: bool,
        body: bytes | None = None,
    ) -> None:
        """`tried`: some model was asked; otherwise nothing is known of the chosen one. What another answered in its
        place is no result of the decision, but learned from all the same. `body`: what was asked, if it was answered
        to its end; the same once more by the same key is a sign against the answer before."""
        kept = made.kept
        kept.flatten()
        learner = self._learners.of(kept.project, kept.route)
        now = time.time()
        kept.answered, kept.reported = answered, tried
        own = answered == made.model
        lost = tried and (failed or not own)
        learner.learn(
            deciding.Outcome(
                made.model,
                made.features,
                now,
                cost=cost if own else 0.0,
                latency=seconds if own and not failed else None,
                failed=lost,
                request=tried,
                held=made.choice.held,
            )
        )
        if tried and not own:
            learner.learn(deciding.Outcome(answered, made.features, now, cost=cost, latency=seconds, failed=failed))
        if tried:
            told = {
                "failed": lost,
                "model": None if own else answered,
                "cost": cost,
                "latencySeconds": None if failed or seconds is None else round(seconds, 4),
                "inputTokens": tokens.input,
                "outputTokens": tokens.output,
            }
            asked = None if body is None else f"{zlib.crc32(body):08x}{len(body):x}"
            self._ledger.decided(kept.with_result(told, asked))
            kept.told = True
            before = None if asked is None else self._asked_again(kept.key_id, asked, kept.id, made.at)
            if before is not None:
                self._regenerated(before)

    def _regenerated(self, decision_id: str) -> None:
        sign = Feedback(
            decision_id=decision_id,
            quality=AGAIN_QUALITY,
            weight=AGAIN_WEIGHT,
            signal="regenerated",
            at=datetime.now(UTC),
        )
        earlier = self._made.get(decision_id)
        if earlier is not None:
            self.take(earlier, sign)
        else:
            self._elsewhere.notice(sign)

    def find(self, caller: Caller, decision_id: str) -> Remembered | None:
        made = self._made.get(decision_id)
        if made is None or (caller.bound is not None and made.project != caller.bound):
            return None
        return made

    def take(self, made: Remembered, feedback: Feedback) -> None:
        """In force here at once, and told to the others. What came of a decision counts once, and so does each key's
        rating."""
        if feedback.result is not None:
            if made.reported:
                return
            made.reported = True
        if feedback.signal == "rating" and feedback.rating is not None:
            made.raters = made.raters or set()
            if feedback.key_id in made.raters:
                raise already_rated()
            made.raters.add(feedback.key_id)
        if not made.told:
            made.told = True
            self._ledger.decided(made.record)
        features = made.features()
        self._learners.of(made.project, made.route).learn(outcome(made.answered or made.model, features, feedback))
        self._learners.hear_label(made.project, features, feedback.label)
        self._ledger.judged(feedback)


def outcome(model: str, features: Features, feedback: Feedback) -> deciding.Outcome:
    result = feedback.result
    return deciding.Outcome(
        model,
        features,
        feedback.at.timestamp(),
        quality=feedback.quality,
        weight=feedback.weight,
        cost=result.cost if result else None,
        latency=result.latency_seconds if result else None,
        failed=result.failed if result else False,
        request=result is not None,
    )


def rating(caller: Caller, said: FeedbackRequest) -> Feedback:
    return Feedback(
        **said.model_dump(),
        quality=None if said.rating is None else deciding.quality_of_rating(said.rating),
        key_id=caller.key_id,
        project=caller.bound,
        at=datetime.now(UTC),
    )


def reported(caller: Caller, said: ResultRequest) -> Feedback:
    result = Result.model_validate(said.model_dump(exclude={"decision_id"}))
    return Feedback(
        decision_id=said.decision_id,
        signal="reported",
        result=result,
        key_id=caller.key_id,
        project=caller.bound,
        at=datetime.now(UTC),
    )


def _answers(model: Model, path: str) -> bool:
    if model.served is not None and model.served.state not in {"failed", "stopped"}:
        return True
    return bool(model.engines) or any(can_say(path, offer.target) for offer in model.offers)


class _Candidates(NamedTuple):
    """`offers` with what a usual request costs by their prices."""

    models: Sequence[Model]
    offers: list[deciding.Offer]


def _bounded(models: Sequence[Model], features: Features, order: Order) -> list[deciding.Offer]:
    """With what each costs at most, by its prices, the length of the request and the bound that the caller set."""
    given, made = bodies.guessed_tokens(order.path, order.body, order.content)
    given = max(given, 2 * features.length_tokens + 16)
    output = (made or USUAL_OUTPUT_TOKENS) * order.answers
    open_ended = output > 0 and not made
    return [
        deciding.Offer(
            model.name,
            _dearest(model, *USUAL_REQUEST),
            _dearest(model, given, output),
            open_ended=open_ended and bool(model.offers),
        )
        for model in models
    ]


def _dearest(model: Model, given: int, made: int) -> float:
    """An engine of ours costs nothing."""
    return max([offer.target.prices.cost(given, 0, made) for offer in model.offers], default=0.0)


def _not_afforded(route: str, budget: Limits | None) -> Refusal:
    period = f" for this {budget.budget_period}" if budget and budget.budget_period != Period.total else ""
    return Refusal(
        429,
        f"The budget of the route `{route}`{period} does not afford this request.",
        code="insufficient_quota",
        headers={"x-should-retry": "false"},
    )
