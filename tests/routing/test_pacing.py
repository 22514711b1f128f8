import json
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.routing.decision import Offer, Outcome, Route
from inference_service.routing.learner import Learner
from inference_service.routing.pacing import HELD_SECONDS, Budget, Pacer
from tests.routing.worlds import CODE


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.5, 50),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 2)), max_size=120),
    st.integers(1, 20),
    st.integers(0, 100),
)
def test_a_hard_budget_is_never_overrun(
    amount: float, requests: list[tuple[float, float]], under_way: int, seed: int
) -> None:
    """Whatever requests cost up to their worst, whenever they come, and however many run at once."""
    random = np.random.default_rng(seed)
    learner = Learner(Route("auto", budget=Budget(amount, 0.0, 1e6)))
    running: deque[Outcome] = deque()
    spent = now = 0.0
    for wait, cost in requests:
        now += wait
        if len(running) >= under_way:
            learner.learn(running.popleft())
        decision = learner.decide(CODE, [Offer("dear", worst_cost=2.0), Offer("fair", worst_cost=1.0)], now, random)
        if decision is not None:
            paid = cost if decision.model == "dear" else cost / 2
            spent += paid
            running.append(Outcome(decision.model, CODE, now, quality=0.5, cost=paid, held=decision.held))
    assert spent <= amount


def test_spend_follows_the_pace_and_all_of_it_is_used() -> None:
    random = np.random.default_rng(0)
    learner = Learner(Route("auto", budget=Budget(100.0, 0.0, 2000.0)))
    costs = {"dear": 0.1, "cheap": 0.01}
    offered = [Offer(model, cost=cost, worst_cost=cost) for model, cost in costs.items()]
    spent, refused = [0.0], 0
    for at in range(2000):
        decision = learner.decide(CODE, offered, float(at), random)
        if decision is None:
            refused += 1
            continue
        quality = 0.9 if decision.model == "dear" else 0.6
        cost = costs[decision.model]
        spent.append(spent[-1] + cost)
        learner.learn(Outcome(decision.model, CODE, float(at), quality=quality, cost=cost, held=decision.held))
    assert refused == 0
    assert 45 < spent[1000] < 57
    assert 93 < spent[-1] <= 100


def test_when_nothing_is_left_nothing_is_decided_until_the_next_period() -> None:
    random = np.random.default_rng(0)
    learner = Learner(Route("auto", budget=Budget(1.0, 0.0, 100.0)))
    learner.learn(Outcome("a", CODE, 10.0, cost=0.95))
    dear, cheap = Offer("dear", worst_cost=0.5), Offer("cheap", worst_cost=0.01)
    decision = learner.decide(CODE, [dear, cheap], 20.0, random)
    assert decision is not None
    assert decision.model == "cheap"
    assert decision.reason == "the only candidate for English code questions"
    learner.learn(Outcome("cheap", CODE, 20.0, cost=0.05, held=decision.held))
    assert learner.decide(CODE, [dear, cheap], 21.0, random) is None
    assert learner.explain(CODE, [dear, cheap], random).model in {"dear", "cheap"}
    assert learner.decide(CODE, [dear, cheap], 101.0, random) is not None


def test_what_others_know_of_the_budget_counts() -> None:
    random = np.random.default_rng(0)
    learner = Learner(Route("auto", budget=Budget(1.0, 0.0, 100.0)))
    offers = [Offer("dear", worst_cost=0.5), Offer("cheap", worst_cost=0.01), Offer("own", cost=0.0, worst_cost=0.0)]
    for affords, left in ((0.5, ["dear", "cheap", "own"]), (0.4, ["cheap", "own"]), (0.0, ["own"]), (-3.0, ["own"])):
        decision = learner.decide(CODE, offers, 20.0, random, affords)
        assert decision is not None
        assert [one.model for one in decision.candidates] == left
        assert decision.worst_cost == {"dear": 0.5, "cheap": 0.01, "own": 0.0}[left[0]]
        learner.give_back(decision)


def test_an_answer_without_a_bound_may_cost_what_the_dearest_of_lately_did() -> None:
    random = np.random.default_rng(0)
    learner = Learner(Route("auto", budget=Budget(10.0, 0.0, 100.0)))
    learner.learn(Outcome("dear", CODE, 10.0, cost=3.0))
    bounded, open_ended = Offer("dear", worst_cost=0.5), Offer("dear", worst_cost=0.5, open_ended=True)
    for offer, worst in ((bounded, 0.5), (open_ended, 3.0)):
        decision = learner.decide(CODE, [offer], 20.0, random)
        assert decision is not None
        assert decision.worst_cost == worst
        learner.give_back(decision)


def test_a_changed_amount_leaves_what_was_spent_and_what_is_held() -> None:
    pacer = Pacer(Budget(10.0, 0.0, 100.0))
    pacer.spend(4.0, 50.0)
    held = pacer.hold(2.0, 60.0)
    pacer.change(Budget(7.0, 0.0, 100.0))
    assert (pacer.left(60.0), pacer.spent(60.0)) == (1.0, 4.0)
    pacer.change(Budget(20.0, 50.0, 1000.0))
    assert (pacer.left(60.0), pacer.spent(60.0)) == (18.0, 0.0), "in other periods the pace begins anew"
    pacer.release(held)
    assert pacer.left(60.0) == 20.0


def test_what_others_spend_counts_and_what_is_past_does_not() -> None:
    pacer = Pacer(Budget(10.0, 0.0, 100.0))
    pacer.spend(4.0, 50.0)
    assert pacer.left(60.0) == 6.0
    assert pacer.left(130.0) == 10.0
    pacer.spend(4.0, 99.0)
    assert pacer.spent(130.0) == 0.0


def test_what_was_held_for_an_outcome_that_never_came_is_given_back() -> None:
    pacer = Pacer(Budget(10.0, 0.0, 1e9))
    pacer.hold(4.0, 0.0)
    number = pacer.hold(1.0, 1.0)
    assert pacer.left(2.0) == 5.0
    pacer.release(number)
    pacer.release(number)
    assert pacer.left(2.0) == 6.0
    assert pacer.left(HELD_SECONDS + 1) == 10.0


def test_the_price_rises_while_spend_runs_ahead_and_falls_when_it_rests() -> None:
    pacer = Pacer(Budget(100.0, 0.0, 1000.0))
    for at in range(50):
        pacer.spend(1.0, float(at))
    risen = pacer.price()
    assert risen > 0.5
    pacer.spend(0.0, 600.0)
    assert pacer.price() < risen / 2


def test_a_pacer_goes_on_from_its_state() -> None:
    pacer, again = (Pacer(Budget(100.0, 0.0, 1000.0)) for _ in range(2))
    for at in range(20):
        pacer.spend(1.0, float(at))
    again.restore(json.loads(json.dumps(pacer.to_state())))
    assert again.left(30.0) == pacer.left(30.0)
    assert again.price() == pacer.price()


@pytest.mark.parametrize(("amount", "seconds", "field"), [(0.0, 1.0, "amount"), (1.0, 0.0, "seconds")])
def test_a_budget_that_makes_no_sense_is_refused_by_field(amount: float, seconds: float, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Budget(amount, 0.0, seconds)
