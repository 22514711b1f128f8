"""Small worlds with known truth: a few prompts, a few models, right or wrong answers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from inference_service.routing.decision import Offer, Outcome
from inference_service.routing.features import Extractor, Features
from inference_service.routing.learner import Learner

EXTRACTOR = Extractor()
CODE = EXTRACTOR.of_text("Write a Python function that merges two sorted lists and add a unit test.")
LAW = EXTRACTOR.of_text("Darf mein Vermieter den Mietvertrag ohne Frist kündigen?")
ASKED = (CODE, LAW)

Truth = Callable[[str, Features], float] | Mapping[str, float]


def offers(*models: str) -> list[Offer]:
    return [Offer(model) for model in models]


def live(
    learner: Learner,
    truth: Truth,
    offered: Sequence[Offer],
    requests: int,
    random: np.random.Generator,
    *,
    asked: Sequence[Features] = ASKED,
) -> Counter[tuple[str, str]]:
    """How often each model was asked, by domain."""
    chosen: Counter[tuple[str, str]] = Counter()
    for at in range(requests):
        features = asked[at % len(asked)]
        decision = learner.decide(features, offered, float(at), random)
        assert decision is not None
        chosen[decision.model, features.domain] += 1
        good = truth[decision.model] if isinstance(truth, Mapping) else truth(decision.model, features)
        quality = float(random.random() < good)
        learner.learn(Outcome(decision.model, features, float(at), quality=quality, held=decision.held))
    return chosen
