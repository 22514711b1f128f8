"""Which values a trial gets, and which trials are stopped early: pure, and the same for the same seed.

Optuna is imported by whoever needs it first: the api never does, and the watcher only for a random search or asha.
Its studies live in memory for one question and are made anew from what Postgres knows.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from imts_shared.contracts.sweeps import Goal

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Point = dict[str, Any]
_DRAWS = 50


@dataclass(frozen=True)
class Dimension:
    """One parameter: the values themselves, or a range of them."""

    values: Sequence[Any] | None = None
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    integer: bool = False

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Dimension":
        if stored.get("values") is not None:
            return cls(values=stored["values"])
        integer = bool(stored.get("integer"))
        log = bool(stored.get("log"))
        step = stored.get("step")
        if integer:
            low, high = math.ceil(stored["min"]), math.floor(stored["max"])
            return cls(low=low, high=high, log=log, step=None if log else int(step or 1), integer=True)
        return cls(low=float(stored["min"]), high=float(stored["max"]), log=log, step=step)

    @property
    def count(self) -> int | None:
        """How many values there are; None for as many as one likes."""
        if self.values is not None:
            return len(self.values)
        if self.integer and self.log:
            return int(self.high) - int(self.low) + 1
        if self.step is None:
            return None
        return math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def value(self, place: int) -> Any:
        if self.values is not None:
            return self.values[place]
        return self.plain(self.low + place * (self.step or 1))

    def plain(self, number: float) -> Any:
        """Without the noise of binary fractions."""
        return int(number) if self.integer else min(max(float(f"{number:.12g}"), self.low), self.high)

    @property
    def ends(self) -> list[Any]:
        """What stands for all of it in a check."""
        if self.values is not None:
            return list(self.values)
        last = self.high if self.count is None or self.log else self.low + (self.count - 1) * (self.step or 1)
        return [self.plain(self.low), self.plain(last)]

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution

        count = self.count
        if count is not None and not self.log:
            return IntDistribution(0, count - 1)
        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=True)
        return FloatDistribution(self.low, self.high, log=self.log)

    def drawn(self, number: Any) -> Any:
        return self.value(number) if self.count is not None and not self.log else self.plain(number)


Space = dict[str, Dimension]


def space_of(parameters: Mapping[str, Mapping[str, Any]]) -> Space:
    return {name: Dimension.of(stored) for name, stored in parameters.items()}


def points(space: Space) -> int | None:
    """How many different points there are; None for as many as one likes."""
    total = 1
    for dimension in space.values():
        count = dimension.count
        if count is None:
            return None
        total *= count
    return total


def grid(space: Space) -> Iterator[Point]:
    """Every point, the last parameter changing fastest."""
    places = [range(dimension.count or 0) for dimension in space.values()]
    for at in itertools.product(*places):
        yield {name: dimension.value(place) for (name, dimension), place in zip(space.items(), at, strict=True)}


def choose(method: str, space: Space, seed: int, number: int, taken: Sequence[Point]) -> Point:
    """The values of the trial with this number, which counts from 1; none are taken twice while others are left."""
    if method == "grid":
        return next(itertools.islice(grid(space), number - 1, None))
    known = {_key(point) for point in taken}
    for again in range(_DRAWS):
        point = _draw(space, (seed * 1_000_003 + number * _DRAWS + again) % 2**32)
        if _key(point) not in known:
            return point
    if points(space) is None:
        return point
    return next((point for point in grid(space) if _key(point) not in known), point)


def _draw(space: Space, seed: int) -> Point:
    import optuna

    study = optuna.create_study(storage=None, sampler=optuna.samplers.RandomSampler(seed=seed))
    asked = study.ask({name: dimension.distribution() for name, dimension in space.items()})
    return {name: dimension.drawn(asked.params[name]) for name, dimension in space.items()}


def _key(point: Point) -> bytes:
    return orjson.dumps(point, option=orjson.OPT_SORT_KEYS)


def load() -> None:
    """Imports Optuna, which takes a second, and quietens it."""
    import optuna

    optuna.logging.disable_default_handler()
    optuna.logging.set_verbosity(optuna.logging.WARNING)


class Halving:
    """Successive halving over the reports that were made before; a report's answer depends on those alone."""

    def __init__(self, goal: str, min_steps: int, factor: int, reports: Sequence[tuple[int, int, float]]) -> None:
        import optuna

        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=min_steps, reduction_factor=factor)
        sampler = optuna.samplers.RandomSampler(seed=0)
        direction: Goal = "maximize" if goal == "maximize" else "minimize"
        self._study = optuna.create_study(storage=None, direction=direction, sampler=sampler, pruner=pruner)
        self._trials: dict[int, Trial] = {}
        for number, step, value in reports:
            self.hopeless(number, step, value)

    def hopeless(self, number: int, step: int, value: float) -> bool:
        if number not in self._trials:
            self._trials[number] = self._study.ask()
        trial = self._trials[number]
        trial.report(value, step)
        return trial.should_prune()


def rungs(min_steps: int, factor: int, made: int) -> list[int]:
    """The steps at which a trial that has made so many reports is still to be compared."""
    return [min_steps * factor**rung for rung in range(made, 40) if min_steps * factor**rung <= 10**12]
