"""A decision is rehearsed while answers stream.

What is seldom done is slow when it is done: its code and what it looks up have left the processor's caches by then. A
decision that takes 30 microseconds when one follows the other takes 250 and more after a pause of 10 milliseconds. So
between the pieces of an answer, when the gateway is awake anyway, the newest decision is made once more: for a text of
our own, and in vain. (What the route has heard meanwhile is taken in by it, which the next real one then need not do.)
"""

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

import numpy as np
from loguru import logger

from inference_service.routing.decision import Offer
from inference_service.routing.features import Extractor
from inference_service.routing.learner import Learner

PAUSE_SECONDS: Final = 0.002
LEISURE: Final = 10
TEXT: Final = (
    "Please write a short function that adds the numbers in a list, and say in a sentence or two why the order in which"
    " they are added may change what comes of it: is that not the same for all of them?"
)
CONTENT: Final = {"messages": [{"role": "user", "content": TEXT}]}


class Rehearsal:
    def __init__(self) -> None:
        self._decide: Callable[[], object] = _nothing
        self._next = 0.0

    def decided(
        self, extractor: Extractor, learner: Learner, offers: list[Offer], generator: np.random.Generator
    ) -> None:
        self._decide = partial(_decide, extractor, learner, offers, generator)
        self._next = monotonic() + PAUSE_SECONDS

    def again(self) -> None:
        """Not more often than keeps it in the caches, and for a tenth of the time at most, however many models there
        are. Nobody's stream ends for its sake."""
        now = monotonic()
        if now < self._next:
            return
        try:
            self._decide()
        except Exception:  # noqa: BLE001 - it is called between the pieces of an answer that is well
            logger.exception("a decision cannot be rehearsed")
            self._decide = _nothing
        self._next = now + max(PAUSE_SECONDS, LEISURE * (monotonic() - now))


def _nothing() -> None:
    """No decision has been made yet."""


def _decide(extractor: Extractor, learner: Learner, offers: list[Offer], generator: np.random.Generator) -> None:
    learner.explain(extractor.extract(CONTENT), offers, generator)
