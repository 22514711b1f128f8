"""The counters in memory, and which of them hold whom. Those that nobody used for a while leave."""

import math
import time
from collections.abc import Callable, Iterator

from imts_shared.contracts.limits import Limits, Period
from imts_shared.contracts.providers import UpstreamLimits
from inference_service.gateway.quota.counter import Counter, Kind
from inference_service.gateway.quota.periods import running
from inference_service.gateway.quota.scopes import Scopes

SWEEP_SECONDS = 30.0
DAY_SECONDS = 86_400.0

Clock = Callable[[], float]
Asked = tuple[Limits | UpstreamLimits | None, ...]


class Table:
    def __init__(self, window: float, clock: Clock = time.monotonic, wall: Clock = time.time) -> None:
        self.counters: dict[str, Counter] = {}
        self._callers: dict[tuple[str, str | None], Scopes] = {}
        self._others: dict[str, Scopes] = {}
        self._window = window
        self._clock = clock
        self._wall = wall
        self._swept_at = clock()

    def of_caller(
        self, key_id: str, key_limits: Limits | None, project: str | None, project_limits: Limits | None
    ) -> Scopes | None:
        """None where the limits limit nothing."""
        found = self._callers.get((key_id, project))
        if (
            found is None
            or found.asked[0] is not key_limits
            or found.asked[1] is not project_limits
            or found.until <= self._wall()
        ):
            found = self._read((f"key:{key_id}", f"project:{project}"), (key_limits, project_limits))
            self._callers[key_id, project] = found
        found.used = True
        return found if found.counters else None

    def of_upstream(self, provider_id: str, limits: UpstreamLimits) -> Scopes | None:
        found = self._others.get(provider_id)
        if found is None or found.asked[0] is not limits:
            found = self._others[provider_id] = self._read((f"provider:{provider_id}",), (limits,))
        found.used = True
        return found if found.counters else None

    def of_route(self, project: str, name: str, limits: Limits) -> Scopes | None:
        scope = f"route:{project}/{name}"
        found = self._others.get(scope)
        if found is None or found.asked[0] is not limits or found.until <= self._wall():
            found = self._others[scope] = self._read((scope,), (limits,))
        found.used = True
        return found if found.counters else None

    def current(self, scopes: Scopes) -> Scopes:
        """With counters of the running periods, and none that left: no request under way holds anything of those, so
        the scopes themselves can be given new ones."""
        if scopes.until <= self._wall():
            return self._read(scopes.names, scopes.asked)
        if any(counter.gone for counter in scopes.counters):
            scopes.count_with(self._counters(scopes.names, scopes.asked))
        return scopes

    def due(self, now: float) -> list[Counter]:
        """Those that have something to tell or to renew."""
        if now - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = now
            self._sweep()
        return [counter for counter in self.counters.values() if counter.scan(now)]

    def drop(self, counter: Counter) -> None:
        counter.leave()
        if self.counters.get(counter.key) is counter:
            del self.counters[counter.key]

    def life_ms(self, counter: Counter) -> int:
        """How long Redis keeps a counter that nobody visits: a budget as long as its period, at most some months, as it
        can be filled again; a rate as long as its window."""
        if counter.is_budget:
            seconds = min(max(counter.ends - self._wall(), 0.0) + DAY_SECONDS, 90 * DAY_SECONDS)
        else:
            seconds = max(3 * counter.window, 10.0)
        return math.ceil(seconds * 1000)

    def _sweep(self) -> None:
        """A request may still hold scopes that are dropped here: its counters go on being visited until it settles."""
        self._callers = {which: scopes for which, scopes in self._callers.items() if scopes.used}
        self._others = {which: scopes for which, scopes in self._others.items() if scopes.used}
        for scopes in (*self._callers.values(), *self._others.values()):
            scopes.used = False

    def _read(self, names: tuple[str, ...], asked: Asked) -> Scopes:
        return Scopes(names, asked, self._counters(names, asked))

    def _counters(self, names: tuple[str, ...], asked: Asked) -> list[Counter]:
        counters: list[Counter] = []
        for name, limits in zip(names, asked, strict=True):
            if isinstance(limits, Limits):
                counters += self._of_limits(name, limits)
            elif limits is not None:
                counters += self._of_upstream(name, limits)
        return counters

    def _of_limits(self, name: str, limits: Limits) -> Iterator[Counter]:
        for kind, limit in ((Kind.requests, limits.requests_per_minute), (Kind.tokens, limits.tokens_per_minute)):
            if limit is not None:
                yield self._counter(name, kind, limit)
        budgets = ((Kind.token_budget, limits.token_budget), (Kind.money_budget, limits.money_budget))
        for kind, budget in budgets:
            if budget is not None:
                yield self._counter(name, kind, budget, limits.budget_period)

    def _of_upstream(self, name: str, limits: UpstreamLimits) -> Iterator[Counter]:
        kinds = (
            (Kind.requests, limits.requests_per_minute),
            (Kind.tokens, limits.tokens_per_minute),
            (Kind.concurrency, limits.concurrency),
        )
        for kind, limit in kinds:
            if limit is not None:
                yield self._counter(name, kind, limit)

    def _counter(self, scope: str, kind: Kind, limit: float, period: Period | None = None) -> Counter:
        key, ends = f"imts:quota:{scope}:{kind}", math.inf
        if period is not None:
            named, ends = running(period, self._wall())
            key = f"{key}:{named}"
        found = self.counters.get(key)
        if found is None:
            found = self.counters[key] = Counter(
                key, scope, kind, limit, now=self._clock(), window=self._window, period=period, ends=ends
            )
        found.change_limit(limit)
        return found
