"""The limits that hold one caller or one upstream, and what a request holds of them."""

import math
from collections.abc import Sequence

from imts_shared.contracts.limits import Limits
from imts_shared.contracts.providers import UpstreamLimits
from inference_service.gateway.quota.counter import Counter, Kind

MARGIN = 2.0
"""Of a budget a request holds so many times its estimate until it is settled: estimates may be wrong by that."""


class Scopes:
    """`names` and `asked`: whose limits, and the very contracts that they were read from, by which it is seen whether
    they are still those in force."""

    __slots__ = ("asked", "concurrency", "counters", "money_budgets", "names", "requests", "token_budgets", "tokens",
                 "until", "used")  # fmt: skip

    def __init__(
        self, names: tuple[str, ...], asked: tuple[Limits | UpstreamLimits | None, ...], counters: Sequence[Counter]
    ) -> None:
        self.names = names
        self.asked = asked
        self.used = True
        self.count_with(counters)

    def count_with(self, counters: Sequence[Counter]) -> None:
        self.counters = tuple(counters)
        self.requests = self._of(Kind.requests)
        self.concurrency = self._of(Kind.concurrency)
        self.tokens = self._of(Kind.tokens)
        self.token_budgets = self._of(Kind.token_budget)
        self.money_budgets = self._of(Kind.money_budget)
        self.until = min((counter.ends for counter in counters), default=math.inf)

    def _of(self, kind: Kind) -> tuple[Counter, ...]:
        return tuple(counter for counter in self.counters if counter.kind is kind)


class Grant:
    """What one request holds. It is settled once; settling it again changes nothing."""

    __slots__ = ("_money_held", "_scopes", "_tokens", "_tokens_held")

    def __init__(self, scopes: Scopes | None, tokens: float, tokens_held: float, money_held: float) -> None:
        self._scopes = scopes
        self._tokens = tokens
        self._tokens_held = tokens_held
        self._money_held = money_held

    def is_part_of_another(self) -> None:
        """A request within a request counts as none against the rate of requests. To be said as soon as it is had."""
        for counter in self._scopes.requests if self._scopes else ():
            counter.left += 1
            counter.total -= 1

    def settle(self, tokens: float, money: float) -> None:
        """What it really was; (0, 0) gives all back. The request itself stays counted against the rate of requests,
        whatever became of it."""
        scopes = self._scopes
        if scopes is None:
            return
        self._scopes = None
        for counter in scopes.concurrency:
            counter.left += 1
            counter.promised -= 1
        held = self._tokens
        for counter in scopes.tokens:
            counter.left += held - tokens
            counter.promised -= held
            counter.total += tokens
        held = self._tokens_held
        for counter in scopes.token_budgets:
            counter.left += held - tokens
            counter.promised -= held
            counter.total += tokens
        held = self._money_held
        for counter in scopes.money_budgets:
            counter.left += held - money
            counter.promised -= held
            counter.total += money


FREE = Grant(None, 0, 0, 0)
"""For a request that no limit holds."""


def take(scopes: Scopes, tokens: float, tokens_held: float, money_held: float) -> Grant | None:
    """All or nothing, out of what this gateway holds."""
    if _lacks(scopes, tokens, tokens_held, money_held):
        return None
    for counter in scopes.requests:
        counter.left -= 1
        counter.total += 1
    for counter in scopes.concurrency:
        counter.left -= 1
        counter.promised += 1
    for counter in scopes.tokens:
        counter.left -= tokens
        counter.promised += tokens
    for counter in scopes.token_budgets:
        counter.left -= tokens_held
        counter.promised += tokens_held
    for counter in scopes.money_budgets:
        counter.left -= money_held
        counter.promised += money_held
    return Grant(scopes, tokens, tokens_held, money_held)


def _lacks(scopes: Scopes, tokens: float, tokens_held: float, money_held: float) -> bool:
    for counter in scopes.requests:
        if counter.left < 1:
            return True
    for counter in scopes.concurrency:
        if counter.left < 1:
            return True
    for counter in scopes.tokens:
        if counter.left < tokens:
            return True
    for counter in scopes.token_budgets:
        if counter.left < tokens_held:
            return True
    for counter in scopes.money_budgets:  # noqa: SIM110 - a generator would cost as much as all the rest
        if counter.left < money_held:
            return True
    return False


def held(estimate: float, budgets: Sequence[Counter]) -> float:
    """Of a budget that is hardly larger than the request, no more than all of it: else it could never be had."""
    wanted = estimate * MARGIN
    for counter in budgets:
        wanted = min(wanted, max(counter.limit, estimate))
    return wanted


def needs(scopes: Scopes, tokens: float, tokens_held: float, money_held: float) -> list[tuple[Counter, float]]:
    """What of which counter is not at hand."""
    wanted = (
        (scopes.requests, 1.0),
        (scopes.concurrency, 1.0),
        (scopes.tokens, tokens),
        (scopes.token_budgets, tokens_held),
        (scopes.money_budgets, money_held),
    )
    return [(counter, need) for counters, need in wanted for counter in counters if counter.left < need]
