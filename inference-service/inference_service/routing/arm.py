"""What is known of one model's quality: a linear model over the context, which forgets.

It says by how much answers differ from the belief about the model. An answer fades as others of the model come in, and
as the route goes on without the model; a sudden change is noticed by the sum of surprises, and believed at once."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from inference_service.routing.features import CONTEXT_SIZE, Vector
from inference_service.routing.packing import packed, unpacked
from inference_service.routing.surprises import Surprises

MEMORY: Final = 1000.0
"""Answers of the model after which an older one counts about a third."""
ROUTE_MEMORY: Final = 3000.0
"""The same in answers of the whole route: what is not asked for long becomes uncertain, and is tried again."""
VARIANCE_MEMORY: Final = 50.0
"""Answers of one model may scatter more than those of the route, which is no surprise then."""
ALARM: Final = 8.0
ALARM_OF_A_PART: Final = 9.5
DOUBT_AFTER_ALARM: Final = 0.3
"""In quality: the deviation of what is thought of the changed part."""
TAKEN_IN_AT_ONCE: Final = 8
PASSED_AT_LEAST: Final = 50
_UPPER: Final = np.triu_indices(CONTEXT_SIZE)


class Arm:
    def __init__(self, prior: Vector, step: int) -> None:
        self._prior: Final = prior
        self._seen = np.zeros((CONTEXT_SIZE, CONTEXT_SIZE))
        self._pull: Vector = np.zeros(CONTEXT_SIZE)
        self._waiting = 0
        self._faded_at = step
        self._surprises = Surprises()
        self._variance = 0.0
        self.answers = 0
        self.covariance: Vector = np.linalg.inv(prior)
        self.mean: Vector = np.zeros(CONTEXT_SIZE)

    def learn(
        self, context: Vector, difference: float, weight: float, noise: float, parts: Sequence[int], step: int
    ) -> bool:
        """`difference` is that from the belief; `parts` are the places in the context that say which requests these
        are. True: what is known of the arm was worked out anew, and others must look at it."""
        doubt = float(context @ self.covariance @ context)
        off = difference - float(context @ self.mean)
        self._variance += (off * off - self._variance) / VARIANCE_MEMORY
        surprise = off / math.sqrt(max(noise * noise, self._variance) * (1.0 + doubt))
        self._scale(1.0 - 1.0 / MEMORY)
        self._seen += np.outer(context, context * weight)
        self._pull += context * (difference * weight)
        self.answers += 1
        self._waiting += 1
        changed = self._notice(surprise * weight, noise, parts)
        if not changed and self._waiting <= min(TAKEN_IN_AT_ONCE, self.answers // 8):
            return False
        self.settle(step)
        return True

    def settle(self, step: int) -> None:
        passed = step - self._faded_at
        if not self._waiting and passed < PASSED_AT_LEAST:
            return
        self._scale((1.0 - 1.0 / ROUTE_MEMORY) ** passed)
        self._faded_at = step
        self._waiting = 0
        self.covariance = np.linalg.inv(self._prior + self._seen)
        self.mean = self.covariance @ self._pull

    def to_state(self) -> dict[str, Any]:
        return {
            "answers": self.answers,
            "variance": self._variance,
            "fadedAt": self._faded_at,
            "seen": packed(self._seen[_UPPER]),
            "pull": packed(self._pull),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        size = CONTEXT_SIZE
        upper = unpacked(state["seen"], size * (size + 1) // 2)
        self._pull = unpacked(state["pull"], size)
        self._seen[_UPPER] = upper
        self._seen.T[_UPPER] = upper
        self._faded_at = int(state["fadedAt"])
        self.answers = int(state["answers"])
        self._variance = float(state["variance"])
        self._waiting = 1
        self.settle(self._faded_at)

    def _scale(self, factor: float) -> None:
        self._seen *= factor
        self._pull *= factor

    def _notice(self, surprise: float, noise: float, parts: Sequence[int]) -> bool:
        for part in (0, *parts):
            change = self._surprises.note(part, surprise, ALARM if part == 0 else ALARM_OF_A_PART)
            if change:
                self._believe(part, change * noise, noise)
                self._surprises.forget()
                return True
        return False

    def _believe(self, part: int, shift: float, noise: float) -> None:
        """The level of this part has moved, by about so much: it is in doubt again, the differences within are not."""
        whole = self._prior + self._seen
        known = whole[:, part]
        doubt = (DOUBT_AFTER_ALARM / noise) ** 2
        self._seen -= np.outer(known, known) * (doubt / (1.0 + doubt * whole[part, part]))
        moved = np.linalg.solve(whole, self._pull)
        moved[part] += shift
        self._pull = (self._prior + self._seen) @ moved
