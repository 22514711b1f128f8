"""How good each model's answer will be, how sure that is, and how often each model would be the best choice."""

import math
from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any, Final, NamedTuple

import numpy as np

from inference_service.routing.arm import Arm
from inference_service.routing.beliefs import Belief, Beliefs, precision
from inference_service.routing.classifier import KNOWN_LANGUAGES
from inference_service.routing.features import CONTEXT_SIZE, DOMAINS, Features, Vector

DRAWS: Final = 64
LEAST_DEVIATION: Final = 1e-9
CURIOSITY: Final = 0.5
"""Draws deviate by so much of what they might: with several models a whole deviation tries too much."""
OPTIMISM: Final = 0.5
"""LinUCB adds so many deviations to what is expected."""
FIRST_NOISE: Final = 0.3
NOISE_BOUNDS: Final = (0.05, 0.5)
NOISE_MEMORY: Final = 500
RIDGE: Final = 8.0
RIDGE_OF_ALL: Final = 2.0
"""The model as such may differ from the belief more readily than its single sides."""

_ROWS: Final = 1 + CONTEXT_SIZE
"""Of each model: its mean, and its covariance."""

_PLACE_OF_DOMAIN: Final = {domain: 1 + number for number, domain in enumerate(DOMAINS)}
_PLACE_OF_LANGUAGE: Final = {language: 1 + len(DOMAINS) + number for number, language in enumerate(KNOWN_LANGUAGES)}


class Outlook(NamedTuple):
    """Of each candidate the quality expected, and its deviation."""

    expected: list[float]
    deviation: list[float]


class Bandit:
    def __init__(self, beliefs: Sequence[Belief]) -> None:
        self._beliefs: Final = Beliefs(beliefs)
        self._arms: dict[str, Arm] = {}
        self._stacked: dict[tuple[str, ...], Vector] = {}
        self._variance = FIRST_NOISE**2
        self._variance_of = 0
        self._step = 0

    def outlook(self, models: tuple[str, ...], features: Features) -> Outlook:
        """Of a handful of models: one product, and the rest in plain numbers, which are quicker than small arrays."""
        stacked = self._stacked.get(models)
        if stacked is None:
            stacked = self._stack(models)
        context = features.context
        sides = context.tolist()
        language, domain, noise = features.language, features.domain, self._variance
        expected, deviation = [], []
        products = stacked.dot(context).tolist()
        for number, model in enumerate(models):
            mean, *row = products[number * _ROWS : (number + 1) * _ROWS]
            expected.append(self._beliefs.quality(model, language, domain) + mean)
            deviation.append(math.sqrt(max(0.0, noise * sum(map(mul, row, sides)))))
        return Outlook(expected, deviation)

    def learn(self, model: str, features: Features, quality: float, weight: float) -> None:
        self._step += 1
        arm = self._arm(model)
        believed = self._beliefs.quality(model, features.language, features.domain)
        noise = math.sqrt(self._variance)
        places = [_PLACE_OF_DOMAIN[features.domain]]
        if features.language in _PLACE_OF_LANGUAGE:
            places.append(_PLACE_OF_LANGUAGE[features.language])
        self._measure_noise(quality - believed - float(features.context @ arm.mean))
        if arm.learn(features.context, quality - believed, weight, noise, places, self._step):
            self._stacked.clear()

    def answers(self, model: str) -> int:
        arm = self._arms.get(model)
        return arm.answers if arm else 0

    def to_state(self) -> dict[str, Any]:
        return {
            "step": self._step,
            "variance": self._variance,
            "varianceOf": self._variance_of,
            "arms": {model: arm.to_state() for model, arm in self._arms.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._step = int(state["step"])
        self._variance = float(state["variance"])
        self._variance_of = int(state["varianceOf"])
        for model, arm in state["arms"].items():
            self._arm(model).restore(arm)
        self._stacked.clear()

    def _arm(self, model: str) -> Arm:
        arm = self._arms.get(model)
        if arm is None:
            ridge = np.full(CONTEXT_SIZE, RIDGE)
            ridge[0] = RIDGE_OF_ALL
            arm = self._arms[model] = Arm(precision(self._beliefs.told(model), ridge), self._step)
        return arm

    def _stack(self, models: tuple[str, ...]) -> Vector:
        """Of each the mean, and below it the covariance. Arms that have not been asked for long are settled here as
        well, so that time passes for them too."""
        arms = [self._arm(model) for model in models]
        for arm in arms:
            arm.settle(self._step)
        stacked = np.vstack([part for arm in arms for part in (arm.mean, arm.covariance)])
        self._stacked[models] = stacked
        return stacked

    def _measure_noise(self, difference: float) -> None:
        self._variance_of = min(self._variance_of + 1, NOISE_MEMORY)
        share = 1.0 / (self._variance_of + 30)
        variance = self._variance + share * (difference * difference - self._variance)
        self._variance = min(max(variance, NOISE_BOUNDS[0] ** 2), NOISE_BOUNDS[1] ** 2)


def thompson(
    outlook: Outlook, target: float | None, burden: Sequence[float], random: np.random.Generator
) -> list[float]:
    """The chance of each candidate to be the best, by draws of what the models may be like.

    With a target, quality beyond it is worth nothing; `burden` is what money and time take away."""
    if target is None and len(burden) == 2:
        return _of_two(outlook, burden)
    draws = random.standard_normal((DRAWS, len(burden)))
    draws *= CURIOSITY * np.array(outlook.deviation)
    draws += outlook.expected
    if target is not None:
        np.minimum(draws, target, out=draws)
    draws -= burden
    wins: list[int] = np.bincount(draws.argmax(axis=1), minlength=len(burden)).tolist()
    return [won / DRAWS for won in wins]


def _of_two(outlook: Outlook, burden: Sequence[float]) -> list[float]:
    """What infinitely many draws would say: the difference of two normal numbers is one."""
    behind = outlook.expected[1] - burden[1] - (outlook.expected[0] - burden[0])
    deviation = max(CURIOSITY * math.hypot(*outlook.deviation), LEAST_DEVIATION)
    share = 0.5 * math.erfc(behind / (deviation * math.sqrt(2.0)))
    return [share, 1.0 - share]


def linucb(outlook: Outlook, target: float | None, burden: Sequence[float]) -> list[float]:
    """All for the candidate that is best if things are as good as they may well be."""
    hoped = [
        (quality if target is None else min(quality, target)) - less
        for quality, less in zip(
            [one + OPTIMISM * other for one, other in zip(outlook.expected, outlook.deviation, strict=True)],
            burden,
            strict=True,
        )
    ]
    best = hoped.index(max(hoped))
    return [float(number == best) for number in range(len(burden))]
