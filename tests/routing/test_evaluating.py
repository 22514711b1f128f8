import json

import numpy as np
import pytest

from inference_service.routing.decision import Route
from inference_service.routing.evaluating import Logged, Policy, cheapest, evaluate, fixed, replayed, uniform
from tests.routing.worlds import ASKED

TRUTH = {"coder": {"code": 0.9, "law": 0.3}, "lawyer": {"code": 0.4, "law": 0.8}}
COSTS = {"coder": 0.002, "lawyer": 0.001}


def by_domain(chance: float) -> Policy:
    def policy(logged: Logged) -> dict[str, float]:
        coder = chance if logged.features.domain == "code" else 1 - chance
        return {"coder": coder, "lawyer": 1 - coder}

    return policy


def logged(count: int, seed: int, policy: Policy) -> list[Logged]:
    random = np.random.default_rng(seed)
    found = []
    for at in range(count):
        features = ASKED[int(random.integers(2))]
        chances = dict(policy(Logged("", features, {}, 0.0, None)))
        model = "coder" if random.random() < chances["coder"] else "lawyer"
        quality = float(random.random() < TRUTH[model][features.domain])
        cost = COSTS[model] * 1.1
        found.append(Logged(model, features, chances, float(at), quality, cost=cost, costs=COSTS))
    return found


def worth(chance_of: Policy) -> float:
    total = 0.0
    for features in ASKED:
        chances = chance_of(Logged("", features, dict.fromkeys(TRUTH, 0.5), 0.0, None))
        total += sum(chance * TRUTH[model][features.domain] for model, chance in chances.items()) / len(ASKED)
    return total


@pytest.mark.parametrize("policy", [fixed("coder"), fixed("lawyer"), uniform, by_domain(0.95), by_domain(0.1)])
def test_estimates_hold_the_truth_within_their_error(policy: Policy) -> None:
    """Of thirty logs an estimate may miss by two errors in a few, and on average it misses by nothing."""
    truth = worth(policy)
    for name in ("ips", "snips", "doubly_robust"):
        misses = []
        for seed in range(30):
            estimate = getattr(evaluate(logged(400, seed, by_domain(0.7)), policy), name)
            misses.append((estimate.value - truth) / estimate.error)
        assert np.mean(np.abs(misses) < 2) > 0.8, name
        assert abs(np.mean(misses)) < 0.75, name


def test_the_doubly_robust_estimate_is_the_surest() -> None:
    value = evaluate(logged(1000, 1, by_domain(0.8)), by_domain(0.3))
    assert value.doubly_robust is not None
    assert value.ips is not None
    assert value.doubly_robust.error < value.ips.error
    assert value.why_not is None


def test_a_learner_is_valued_by_what_it_could_have_known_at_the_time() -> None:
    value = evaluate(logged(1500, 2, by_domain(0.5)), replayed(Route("auto")))
    assert value.snips is not None
    assert worth(uniform) + 0.1 < value.snips.value < 0.9


def test_the_cheapest_is_by_what_was_expected() -> None:
    value = evaluate(logged(1000, 3, by_domain(0.5)), cheapest)
    assert value.snips is not None
    assert value.snips.value == pytest.approx(worth(fixed("lawyer")), abs=4 * value.snips.error)


def test_money_can_be_valued_as_well() -> None:
    value = evaluate(logged(500, 4, by_domain(0.5)), fixed("coder"), lambda each: each.cost)
    assert value.snips is not None
    assert value.snips.value == pytest.approx(0.0022)


def test_what_was_never_tried_is_not_concluded() -> None:
    value = evaluate(logged(500, 5, by_domain(0.5)), fixed("newcomer"))
    assert value.unsupported == 1.0
    assert value.why_not is not None
    assert "100% of its choices" in value.why_not
    assert "`newcomer`, which was never a candidate here" in value.why_not
    assert value.as_dict()["conclusive"] is False


def test_without_one_record_of_support_there_is_no_value() -> None:
    value = evaluate(logged(500, 5, by_domain(0.5)), fixed("newcomer"))
    assert (value.effective, value.ips, value.snips, value.doubly_robust) == (0.0, None, None, None)
    assert value.logged is not None
    missed = [each for each in logged(200, 5, by_domain(0.5)) if each.model == "lawyer"]
    value = evaluate(missed, fixed("coder"))
    assert (value.unsupported, value.doubly_robust) == (0.0, None)
    assert "worth only 0" in (value.why_not or "")


def test_too_few_records_are_not_concluded() -> None:
    assert "at least 30" in (evaluate(logged(20, 6, by_domain(0.5)), fixed("coder")).why_not or "")
    assert evaluate([], uniform).why_not == "no record says what came of it"


def test_records_without_feedback_are_left_out() -> None:
    log = logged(300, 7, by_domain(0.5))
    silent = [Logged(each.model, each.features, each.propensities, each.at, None) for each in log]
    assert evaluate(log + silent, uniform).records == 300
    assert evaluate(silent, uniform).why_not is not None


def test_a_value_can_be_sent() -> None:
    assert json.loads(json.dumps(evaluate(logged(200, 8, by_domain(0.5)), uniform).as_dict()))["records"] == 200


def test_the_world_has_both_domains() -> None:
    assert [features.domain for features in ASKED] == ["code", "law"]
