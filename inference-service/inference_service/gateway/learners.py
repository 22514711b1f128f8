"""Each route's learner: made from the route's settings, kept when those change, fed with lessons."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from loguru import logger

from imts_shared.contracts.limits import Limits, Period
from imts_shared.contracts.routes import Lesson, RouteSettings
from inference_service.gateway.directory import Directory
from inference_service.routing.beliefs import Belief
from inference_service.routing.decision import Outcome, Route
from inference_service.routing.examples import COMPLEXITIES
from inference_service.routing.features import DOMAINS, LANGUAGES, Extractor, Features, from_record
from inference_service.routing.learner import Learner
from inference_service.routing.pacing import Budget

DEFAULT = RouteSettings()


@dataclass(frozen=True, slots=True)
class _Known:
    settings: RouteSettings
    learner: Learner
    budget: Limits | None
    until: float
    """The end of its budget's period."""


class Learners:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._extractors: dict[str, Extractor] = {}
        self._known: dict[tuple[str, str], _Known] = {}

    def extractor(self, project: str) -> Extractor:
        """What a project's people say of their requests corrects how theirs are read, and nobody else's."""
        found = self._extractors.get(project)
        if found is None:
            found = self._extractors[project] = Extractor()
        return found

    def of(self, project: str, name: str) -> Learner:
        return self._of(project, name).learner

    def budget(self, project: str, name: str) -> Limits | None:
        return self._of(project, name).budget

    def _of(self, project: str, name: str) -> "_Known":
        """Whatever the route was told, what was learned stays. With a new period the pace begins anew."""
        settings = self._directory.route(project, name) or DEFAULT
        known = self._known.get((project, name))
        if known is not None and time.time() < known.until:
            if known.settings is settings:
                return known
            if known.settings == settings:
                known = self._known[project, name] = replace(known, settings=settings)
                return known
        budget = _budget(settings)
        pacer = known.learner.pacer if known and budget else None
        if pacer is not None and budget is not None:
            pacer.change(budget)
        learner = Learner(made_of(name, settings, budget), pacer)
        if known is not None:
            learner.restore({**known.learner.to_state(), "pacer": None})
        limits = Limits(money_budget=settings.budget, budget_period=settings.budget_period) if settings.budget else None
        known = self._known[project, name] = _Known(
            settings, learner, limits, budget.start + budget.seconds if budget else math.inf
        )
        return known

    def all(self) -> Iterable[tuple[str, str, Learner]]:
        return [(project, name, known.learner) for (project, name), known in self._known.items()]

    def hear(self, lesson: Lesson) -> None:
        features = features_of(lesson.features, lesson.context)
        if features is None:
            logger.warning("a lesson cannot be understood", number=lesson.number)
            return
        result = lesson.result
        self.of(lesson.project, lesson.route).learn(
            Outcome(
                lesson.model,
                features,
                lesson.at.timestamp(),
                quality=lesson.quality,
                weight=lesson.weight,
                cost=result.cost if result else None,
                latency=result.latency_seconds if result else None,
                failed=result.failed if result else False,
                request=result is not None,
            )
        )
        self.hear_label(lesson.project, features, lesson.label)

    def hear_label(self, project: str, features: Features, label: str | None) -> None:
        """A person's word on what a request was corrects how the next ones are read."""
        word = (label or "").strip().lower()
        if word in DOMAINS:
            self.extractor(project).classifier.learn(features.rows, domain=word)
        elif word in COMPLEXITIES:
            self.extractor(project).classifier.learn(features.rows, complexity=word)


def features_of(told: dict[str, object], context: list[float]) -> Features | None:
    try:
        return from_record({**told, "context": context})
    except (KeyError, TypeError, ValueError):
        return None


def made_of(name: str, settings: RouteSettings, budget: Budget | None) -> Route:
    return Route(
        name,
        settings.policy.value,
        settings.cost_weight,
        settings.latency_weight,
        settings.quality_target or None,
        budget,
        tuple(_beliefs(settings)),
    )


def _budget(settings: RouteSettings) -> Budget | None:
    """Of the running period alone."""
    if not settings.budget:
        return None
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if settings.budget_period == Period.day:
        start, end = today, today + timedelta(days=1)
    elif settings.budget_period == Period.week:
        start = today - timedelta(days=today.weekday())
        end = start + timedelta(days=7)
    elif settings.budget_period == Period.month:
        start = today.replace(day=1)
        end = (start + timedelta(days=32)).replace(day=1)
    else:
        start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
    return Budget(settings.budget, start.timestamp(), (end - start).total_seconds())


def _beliefs(settings: RouteSettings) -> Iterable[Belief]:
    for one in settings.beliefs:
        if (one.language or LANGUAGES[0]) in LANGUAGES and (one.domain or DOMAINS[0]) in DOMAINS:
            yield Belief(one.model, one.quality, one.language, one.domain, one.strength)
