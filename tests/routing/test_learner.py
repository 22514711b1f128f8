import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.routing.beliefs import Belief
from inference_service.routing.decision import POLICIES, Offer, Outcome, Route, outcome_from_record, quality_of_rating
from inference_service.routing.features import Features, from_record
from inference_service.routing.learner import Learner, from_state
from tests.routing.worlds import ASKED, CODE, EXTRACTOR, LAW, live, offers


def specialists(model: str, features: Features) -> float:
    return 0.9 if (model == "coder") == (features.domain == "code") else 0.5


@pytest.mark.parametrize("policy", POLICIES)
def test_it_learns_who_is_good_at_what(policy: str) -> None:
    random = np.random.default_rng(1)
    learner = Learner(Route("auto", policy=policy))
    live(learner, specialists, offers("coder", "lawyer"), 400, random)
    chosen = live(learner, specialists, offers("coder", "lawyer"), 200, random)
    assert chosen["coder", "code"] > 85
    assert chosen["lawyer", "law"] > 85


@pytest.mark.parametrize("policy", POLICIES)
def test_beliefs_decide_on_day_one(policy: str) -> None:
    beliefs = (
        Belief("east", 0.6),
        Belief("west", 0.6),
        Belief("east", 0.9, language="zh", strength=30),
        Belief("west", 0.9, domain="law", language="de", strength=30),
    )
    learner = Learner(Route("auto", policy=policy, beliefs=beliefs))
    chinese = EXTRACTOR.of_text("请推荐几部电影。")
    random = np.random.default_rng(0)
    picks = Counter(learner.explain(chinese, offers("east", "west"), random).model for _ in range(200))
    assert picks["east"] > 150
    picks = Counter(learner.explain(LAW, offers("east", "west"), random).model for _ in range(200))
    assert picks["west"] > 150
    reasons = {learner.explain(LAW, offers("east", "west"), random).reason for _ in range(50)}
    assert any("of 2 for German law questions, by beliefs and 0 answers" in reason for reason in reasons)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(POLICIES),
    st.integers(1, 6),
    st.floats(0, 0.5),
    st.none() | st.floats(0.1, 1),
    st.floats(0, 100),
    st.integers(0, 1000),
)
def test_propensities_are_chances(
    policy: str, models: int, exploration: float, target: float | None, weight: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    learner = Learner(Route("auto", policy=policy, exploration=exploration, quality_target=target, cost_weight=weight))
    offered = [Offer(f"m{number}", cost=number * 0.001 or None) for number in range(models)]
    for at in range(20):
        decision = learner.decide(CODE, offered, float(at), random)
        assert decision is not None
        chances = [each.propensity for each in decision.candidates]
        assert sum(chances) == pytest.approx(1)
        assert min(chances) >= exploration / models - 1e-9
        assert decision.propensity > 0
        learner.learn(Outcome(decision.model, CODE, float(at), quality=float(random.random()), cost=0.001))


def test_propensities_are_how_often_models_are_chosen() -> None:
    random = np.random.default_rng(5)
    learner = Learner(Route("auto"))
    live(learner, lambda model, _: {"a": 0.5, "b": 0.55, "c": 0.6}[model], offers("a", "b", "c"), 150, random)
    told: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    for _ in range(4000):
        decision = learner.explain(CODE, offers("a", "b", "c"), random)
        chosen[decision.model] += 1
        for each in decision.candidates:
            told[each.model] += each.propensity  # type: ignore[assignment]
    for model in "abc":
        assert chosen[model] == pytest.approx(told[model], abs=4 * 4000**0.5 / 2)


def test_a_new_model_is_tried_and_taken_if_it_is_better() -> None:
    random = np.random.default_rng(2)
    learner = Learner(Route("auto"))
    live(learner, lambda model, _: 0.6, offers("old", "older"), 500, random)
    chosen = live(learner, lambda model, _: 0.95 if model == "new" else 0.6, offers("old", "older", "new"), 300, random)
    assert sum(count for (model, _), count in chosen.items() if model == "new") > 150


def test_a_model_that_silently_gets_worse_is_left_and_taken_again_when_it_recovers() -> None:
    both = offers("good", "fair")
    shares = []
    for seed in range(5):
        random = np.random.default_rng(seed)
        learner = Learner(Route("auto"))
        of_one = []
        for good, requests in ((0.9, 800), (0.9, 100), (0.3, 150), (0.3, 100), (0.9, 1500), (0.9, 100)):
            chosen = live(learner, {"good": good, "fair": 0.65}, both, requests, random)
            of_one.append((chosen["good", "code"] + chosen["good", "law"]) / requests)
        shares.append(of_one)
    _, before, _, fallen, _, recovered = np.median(shares, axis=0)
    assert before > 0.9
    assert fallen < 0.05
    assert recovered > 0.8


def test_a_fall_in_one_domain_only_leaves_the_other_alone() -> None:
    both = offers("good", "fair")

    def fallen(model: str, features: Features) -> float:
        return 0.65 if model == "fair" else 0.3 if features.domain == "code" else 0.9

    shares = []
    for seed in range(9):
        random = np.random.default_rng(seed)
        learner = Learner(Route("auto"))
        live(learner, lambda model, _: 0.9 if model == "good" else 0.65, both, 800, random)
        live(learner, fallen, both, 300, random)
        chosen = live(learner, fallen, both, 200, random)
        shares.append((chosen["good", "code"], chosen["good", "law"]))
    code, law = np.median(shares, axis=0)
    assert code < 5
    assert law > 95
    assert sum(of_law > 80 for _, of_law in shares) >= 7, "one run in ten takes it for a fall of the whole model"


def test_money_is_weighed_against_quality() -> None:
    random = np.random.default_rng(6)
    offered = [Offer("dear", cost=0.01), Offer("cheap", cost=0.001)]
    truth = {"dear": 0.9, "cheap": 0.8}
    taken = {}
    for weight in (0.0, 50.0):
        learner = Learner(Route("auto", cost_weight=weight))
        live(learner, lambda model, _: truth[model], offered, 600, random)
        chosen = live(learner, lambda model, _: truth[model], offered, 200, random)
        taken[weight] = sum(count for (model, _), count in chosen.items() if model == "cheap")
    assert taken[0.0] < 60
    assert taken[50.0] > 170


def test_time_is_weighed_against_quality() -> None:
    learner = Learner(Route("auto", latency_weight=0.1))
    offered = [Offer("slow", latency=9.0), Offer("fast", latency=1.0)]
    decision = learner.explain(CODE, offered, np.random.default_rng(0))
    slow, fast = decision.candidates
    assert fast.score - slow.score == pytest.approx(0.8)


def test_with_a_target_the_cheapest_that_reaches_it_is_asked() -> None:
    random = np.random.default_rng(7)
    offered = [Offer("best", cost=0.02), Offer("enough", cost=0.005), Offer("poor", cost=0.001)]
    truth = {"best": 0.97, "enough": 0.9, "poor": 0.4}
    learner = Learner(Route("auto", quality_target=0.75))
    live(learner, lambda model, _: truth[model], offered, 500, random)
    decision = learner.explain(LAW, offered, random)
    reached = {each.model: each.propensity for each in decision.candidates}
    assert max(reached, key=reached.__getitem__) == "enough"
    reasons = {learner.explain(LAW, offered, random).reason for _ in range(100)}
    assert "cheapest of 2 that reach quality 0.75 for German law questions" in reasons


def test_reasons_say_when_something_is_explored() -> None:
    random = np.random.default_rng(8)
    learner = Learner(Route("auto", exploration=0.5))
    live(learner, specialists, offers("coder", "lawyer"), 200, random)
    reasons = {learner.explain(CODE, offers("coder", "lawyer"), random).reason for _ in range(100)}
    assert any(reason.startswith("exploring: ") and "answers known" in reason for reason in reasons)
    assert any("of 2 for English code questions" in reason for reason in reasons)


def test_unsureness_is_told_and_ends() -> None:
    random = np.random.default_rng(9)
    learner = Learner(Route("auto"))
    assert learner.explain(CODE, offers("coder", "lawyer"), random).unsure
    live(learner, specialists, offers("coder", "lawyer"), 400, random)
    assert not learner.explain(CODE, offers("coder", "lawyer"), random).unsure


def test_the_same_randomness_gives_the_same_decision() -> None:
    learner = Learner(Route("auto"))
    one, other = (learner.explain(CODE, offers("a", "b"), np.random.default_rng(11)) for _ in range(2))
    assert one.as_dict() == other.as_dict()


def test_a_state_goes_on_as_if_nothing_had_been() -> None:
    random = np.random.default_rng(10)
    route = Route("auto", beliefs=(Belief("coder", 0.8),))
    learner = Learner(route)
    live(learner, specialists, offers("coder", "lawyer"), 300, random)
    packed = json.dumps(learner.to_state(), allow_nan=False)
    assert len(packed) < 20_000
    again = from_state(route, json.loads(packed))
    assert again.stats() == learner.stats()
    for features in ASKED:
        mine = learner.explain(features, offers("coder", "lawyer"), np.random.default_rng(1))
        its = again.explain(features, offers("coder", "lawyer"), np.random.default_rng(1))
        for one, other in zip(mine.candidates, its.candidates, strict=True):
            assert one.expected_quality == pytest.approx(other.expected_quality, abs=0.03)
            assert one.propensity == pytest.approx(other.propensity, abs=0.1)


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        from_state(Route("auto"), {"version": 0})


def test_the_order_of_others_outcomes_matters_little() -> None:
    random = np.random.default_rng(12)
    outcomes = [
        Outcome(model, features, float(at), quality=float(random.random() < specialists(model, features)))
        for at in range(300)
        for model in ("coder", "lawyer")
        for features in ASKED
    ]
    learners = []
    for seed in (None, 1, 2):
        learner = Learner(Route("auto"))
        order = np.arange(len(outcomes)) if seed is None else np.random.default_rng(seed).permutation(len(outcomes))
        for at in order:
            learner.learn(outcomes[at])
        learners.append(learner)
    for features in ASKED:
        expected = [
            [each.expected_quality for each in learner.explain(features, offers("coder", "lawyer"), random).candidates]
            for learner in learners
        ]
        assert np.ptp(expected, axis=0).max() < 0.08


def test_statistics_count_each_thing_by_itself() -> None:
    learner = Learner(Route("auto"))
    learner.learn(Outcome("a", CODE, 0.0, cost=0.01, latency=2.0))
    learner.learn(Outcome("a", CODE, 1.0, quality=quality_of_rating(5), request=False))
    learner.learn(Outcome("a", LAW, 2.0, failed=True))
    stats = learner.stats()
    assert stats["models"] == [
        {"model": "a", "requests": 2, "failures": 1, "quality": 0.5, "qualityCount": 2, "cost": 0.01, "latency": 2.0}
    ]
    assert {row["language"]: row["requests"] for row in stats["languages"]} == {"en": 1, "de": 1}
    assert {row["domain"]: row["quality"] for row in stats["domains"]} == {"code": 1.0, "law": 0.0}


def test_feedback_of_little_weight_moves_little() -> None:
    moved = []
    for weight in (1.0, 0.2):
        learner = Learner(Route("auto"))
        for _ in range(5):
            learner.learn(Outcome("a", CODE, 0.0, quality=0.0, weight=weight))
        moved.append(learner.explain(CODE, offers("a"), np.random.default_rng(0)).candidates[0].expected_quality)
    assert moved[0] < moved[1] < 0.7


def test_cost_and_time_are_expected_as_they_were_for_requests_like_it() -> None:
    learner = Learner(Route("auto"))
    long = replace(CODE, length_class="huge")
    for at in range(100):
        learner.learn(Outcome("a", CODE, float(at), cost=0.001, latency=1.0))
        learner.learn(Outcome("a", long, float(at), cost=0.1, latency=20.0))
    short_one = learner.explain(CODE, offers("a"), np.random.default_rng(0)).candidates[0]
    long_one = learner.explain(long, offers("a"), np.random.default_rng(0)).candidates[0]
    assert short_one.expected_cost is not None
    assert long_one.expected_cost is not None
    assert long_one.expected_cost > 10 * short_one.expected_cost


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"policy": "guess"}, "policy"),
        ({"cost_weight": -1.0}, "costWeight"),
        ({"latency_weight": -1.0}, "latencyWeight"),
        ({"quality_target": 1.5}, "qualityTarget"),
        ({"exploration": 0.9}, "exploration"),
    ],
)
def test_a_route_that_makes_no_sense_is_refused_by_field(given: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Route("auto", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"quality": float("nan")}, "quality"),
        ({"quality": 1.1}, "quality"),
        ({"weight": 2.0}, "weight"),
        ({"cost": float("inf")}, "cost"),
        ({"cost": -1.0}, "cost"),
        ({"latency": float("nan")}, "latency"),
    ],
)
def test_an_outcome_that_would_spoil_what_is_known_is_refused_by_field(given: dict[str, float], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Outcome("m", CODE, 0.0, **given)  # type: ignore[arg-type]


def test_an_outcome_can_be_sent_to_other_replicas() -> None:
    outcome = Outcome("m", CODE, 3.0, quality=0.5, cost=0.001, latency=1.5)
    record = json.loads(json.dumps(outcome.record()))
    again = outcome_from_record(record, from_record(record["features"]))
    mine, its = Learner(Route("auto")), Learner(Route("auto"))
    mine.learn(outcome)
    its.learn(again)
    assert mine.stats() == its.stats()
    one, other = (learner.explain(CODE, offers("m"), np.random.default_rng(0)).candidates[0] for learner in (mine, its))
    assert one.expected_quality == pytest.approx(other.expected_quality, abs=1e-3)


def test_there_must_be_a_candidate() -> None:
    with pytest.raises(ValueError, match="candidates"):
        Learner(Route("auto")).decide(CODE, [], 0.0, np.random.default_rng(0))
