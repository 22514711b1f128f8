import time

import numpy as np
import pytest

from inference_service.gateway import rehearsal
from inference_service.gateway.rehearsal import PAUSE_SECONDS, Rehearsal
from inference_service.routing.decision import Offer, Outcome, Route
from inference_service.routing.features import Extractor, Features
from inference_service.routing.learner import Learner
from inference_service.routing.pacing import Budget

OFFERS = [Offer("small", worst_cost=0.1), Offer("large", worst_cost=0.2)]


class Counted(Extractor):
    read = 0

    def extract(self, content: object) -> Features:
        self.read += 1
        return super().extract(content)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rehearsal, "monotonic", clock)
    return clock


@pytest.fixture
def learner() -> Learner:
    learner = Learner(Route("auto", budget=Budget(10.0, time.time(), 86_400.0)))
    features = Extractor().of_text("What is the capital of France?")
    for number in range(40):
        learner.learn(Outcome("small", features, time.time(), quality=float(number % 2), cost=0.01))
    return learner


def test_it_changes_nothing(learner: Learner, clock: Clock) -> None:
    again = Rehearsal()
    extractor = Counted()
    made = learner.decide(extractor.of_text("Why?"), OFFERS, time.time(), np.random.default_rng(1))
    assert made is not None
    again.decided(extractor, learner, OFFERS, np.random.default_rng(1))
    before = learner.to_state()
    for _ in range(20):
        clock.now += 1
        again.again()
    assert extractor.read == 20
    assert learner.to_state() == before


def test_not_more_often_than_it_helps(learner: Learner, clock: Clock) -> None:
    again = Rehearsal()
    extractor = Counted()
    again.decided(extractor, learner, OFFERS, np.random.default_rng(1))
    for _ in range(50):
        again.again()
    assert extractor.read == 0, "a decision was made a moment ago"
    clock.now += PAUSE_SECONDS
    for _ in range(50):
        again.again()
    assert extractor.read == 1


def test_many_models_are_rehearsed_for_a_tenth_of_the_time(learner: Learner, clock: Clock) -> None:
    class Slow(Counted):
        def extract(self, content: object) -> Features:
            clock.now += 0.02
            return super().extract(content)

    again = Rehearsal()
    extractor = Slow()
    again.decided(extractor, learner, OFFERS, np.random.default_rng(1))
    until = clock.now + 10
    while clock.now < until:
        again.again()
        clock.now += 0.001
    assert extractor.read * 0.02 == pytest.approx(1.0, abs=0.1)


def test_a_decision_that_fails_is_rehearsed_no_more(learner: Learner, clock: Clock) -> None:
    again = Rehearsal()
    extractor = Counted()
    again.decided(extractor, learner, [], np.random.default_rng(1))
    for _ in range(5):
        clock.now += 1
        again.again()
    assert extractor.read == 1, "there is nothing to choose from"


def test_without_a_decision_there_is_nothing_to_rehearse() -> None:
    Rehearsal().again()
