"""Decisions are remembered by the thousand: each as a few bytes once its request has ended, whatever came of it."""

import numpy as np
import pytest

from imts_shared.contracts.access import Role
from imts_shared.contracts.serving import Snapshot
from inference_service.gateway.afterwards import Afterwards
from inference_service.gateway.counting import Tokens
from inference_service.gateway.decided import Decided
from inference_service.gateway.directory import Caller, Directory
from inference_service.gateway.elsewhere import Elsewhere
from inference_service.gateway.judge import Judge
from inference_service.gateway.learners import Learners
from inference_service.gateway.ledger import Ledger
from inference_service.gateway.quota import FREE, Quota
from inference_service.gateway.router import Router
from inference_service.routing.decision import Offer


@pytest.mark.parametrize("tried", [True, False])
def test_a_decision_is_encoded_once_its_request_has_ended(tried: bool) -> None:
    directory = Directory()
    directory.apply(Snapshot(version="v1", keys=[], models=[]))
    learners = Learners(directory)
    told: list[bytes] = []

    class Heard(Ledger):
        def __init__(self) -> None: ...

        def decided(self, decision: bytes) -> None:
            told.append(decision)

    quota, judge = object.__new__(Quota), object.__new__(Judge)
    router = Router(directory, learners, quota, Heard(), object.__new__(Elsewhere), judge, Afterwards())
    features = learners.extractor("default").extract({"messages": [{"role": "user", "content": "Hello"}]})
    choice = learners.of("default", "mine").explain(features, [Offer("one"), Offer("other")], np.random.default_rng(1))
    kept, at = router._remember(Caller("k", Role.inference, "default"), "default", "mine", features, choice)
    made = Decided(kept, features, choice, at, FREE)
    router.finished(made, choice.model, Tokens(), 0.0, 0.1, failed=False, tried=tried)
    assert isinstance(made.kept.made, bytes)
    assert made.kept.answer().candidates
    assert len(told) == tried
