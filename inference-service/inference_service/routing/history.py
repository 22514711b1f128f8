"""What models have done: requests, quality, cost and time by model, language, domain and length."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from inference_service.routing.features import Features

MEMORY: Final = 300
"""Means follow the newest so many values."""
FIRMNESS: Final = 5.0
"""A special mean counts as much as the general one when it has seen so many values."""


class Mean:
    __slots__ = ("count", "value")

    def __init__(self, count: int = 0, value: float = 0.0) -> None:
        self.count = count
        self.value = value

    def add(self, value: float) -> None:
        self.count += 1
        self.value += (value - self.value) / min(self.count, MEMORY)

    def toward(self, general: float) -> float:
        known = min(self.count, MEMORY)
        return (self.value * known + general * FIRMNESS) / (known + FIRMNESS)


class Tally:
    __slots__ = ("cost", "failures", "latency", "quality", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.failures = 0
        self.quality = Mean()
        self.cost = Mean()
        self.latency = Mean()

    def packed(self) -> list[float]:
        means = (self.quality, self.cost, self.latency)
        return [self.requests, self.failures, *(part for mean in means for part in (mean.count, mean.value))]

    @classmethod
    def unpacked(cls, numbers: list[float]) -> "Tally":
        tally = cls()
        tally.requests, tally.failures = int(numbers[0]), int(numbers[1])
        tally.quality, tally.cost, tally.latency = (Mean(int(numbers[at]), float(numbers[at + 1])) for at in (2, 4, 6))
        return tally


class History:
    def __init__(self) -> None:
        self._told: dict[tuple[str, str, str], Tally] = {}
        self._prices: dict[tuple[str, ...], tuple[Mean, Mean]] = {}
        self._peaks: dict[str, float] = {}

    def add(
        self,
        model: str,
        features: Features,
        *,
        request: bool,
        failed: bool,
        quality: float | None,
        cost: float | None,
        latency: float | None,
    ) -> None:
        tally = self._told.setdefault((model, features.language, features.domain), Tally())
        tally.requests += request
        tally.failures += failed
        if quality is not None:
            tally.quality.add(quality)
        if cost is not None:
            tally.cost.add(cost)
            self._peaks[model] = max(cost, self._peaks.get(model, 0.0) * (1 - 1 / MEMORY))
        if latency is not None:
            tally.latency.add(latency)
        if cost is None and latency is None:
            return
        for key in ((model,), (model, features.domain, features.length_class)):
            costs, latencies = self._prices.setdefault(key, (Mean(), Mean()))
            if cost is not None:
                costs.add(cost)
            if latency is not None:
                latencies.add(latency)

    def expected(
        self, model: str, features: Features, cost: float | None, latency: float | None
    ) -> tuple[float | None, float | None]:
        """Cost and latency of such a request; what is said of them beforehand counts until more is known."""
        general = self._prices.get((model,))
        if general is None:
            return cost, latency
        special = self._prices.get((model, features.domain, features.length_class))
        return _expected(0, general, special, cost), _expected(1, general, special, latency)

    def worst_cost(self, model: str) -> float:
        """The highest of lately."""
        return self._peaks.get(model, 0.0)

    def statistics(self) -> dict[str, list[dict[str, Any]]]:
        cells = self._told.items()
        return {
            "models": _summed(cells, lambda key: {"model": key[0]}),
            "languages": _summed(cells, lambda key: {"model": key[0], "language": key[1]}),
            "domains": _summed(cells, lambda key: {"model": key[0], "domain": key[2]}),
        }

    def to_state(self) -> dict[str, Any]:
        return {
            "told": [[*key, *tally.packed()] for key, tally in self._told.items()],
            "prices": [
                [list(key), costs.count, costs.value, latencies.count, latencies.value]
                for key, (costs, latencies) in self._prices.items()
            ],
            "peaks": self._peaks,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._told = {(row[0], row[1], row[2]): Tally.unpacked(row[3:]) for row in state["told"]}
        self._prices = {
            tuple(key): (Mean(costs, cost), Mean(latencies, latency))
            for key, costs, cost, latencies, latency in state["prices"]
        }
        self._peaks = dict(state["peaks"])


def _expected(
    which: int, general: tuple[Mean, Mean], special: tuple[Mean, Mean] | None, told: float | None
) -> float | None:
    if general[which].count == 0:
        return told
    middle = general[which].value if told is None else general[which].toward(told)
    return middle if special is None else special[which].toward(middle)


def _summed(
    cells: Iterable[tuple[tuple[str, str, str], Tally]], named: Callable[[tuple[str, str, str]], dict[str, str]]
) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], tuple[dict[str, str], list[Tally]]] = {}
    for key, tally in cells:
        name = named(key)
        groups.setdefault(tuple(name.values()), (name, []))[1].append(tally)
    return [
        {
            **name,
            "requests": sum(tally.requests for tally in tallies),
            "failures": sum(tally.failures for tally in tallies),
            "quality": _mean([tally.quality for tally in tallies]),
            "qualityCount": sum(tally.quality.count for tally in tallies),
            "cost": _mean([tally.cost for tally in tallies]),
            "latency": _mean([tally.latency for tally in tallies]),
        }
        for _, (name, tallies) in sorted(groups.items(), key=lambda group: group[0])
    ]


def _mean(means: list[Mean]) -> float | None:
    known = sum(mean.count for mean in means)
    return sum(mean.value * mean.count for mean in means) / known if known else None
