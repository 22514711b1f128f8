"""One limit as this gateway sees it: what it may still promise of it, and what it has to tell Redis.

`left` is what may be promised without asking. A request takes its promise out of it when it is admitted; when it is
settled the promise comes back and what it really was goes to `total`. `left + promised` and what of `total` is not yet
acknowledged are together what Redis holds for this gateway.
"""

import math
from collections import deque
from enum import StrEnum
from typing import NamedTuple

from imts_shared.contracts.limits import Period

AHEAD_SECONDS = 2.0
AHEAD_REQUESTS = 4
RENEW_SECONDS = 1.0
CALM_SECONDS = 1.0
"""Unused for so long, a portion is given back."""
PORTION_SHARE = 0.005
"""Of a budget, what a gateway takes ahead at most: so much is lost with one that is killed."""
UNTOLD_SHARE = 0.001
"""Of a limit, what may be spent and not told for a while."""
REFUSED_SECONDS = 0.05
"""For so long a refusal is believed before Redis is asked again."""
GONE = -math.inf
DUST = 1e-9
"""Less money than this is what adding and taking away left over."""


class Kind(StrEnum):
    requests = "requests"
    tokens = "tokens"
    concurrency = "concurrency"
    token_budget = "token_budget"  # noqa: S105 - a word for a limit
    money_budget = "money_budget"


class Visit(NamedTuple):
    """What a counter tells at one visit: see `counters.lua`."""

    window_ms: float
    limit: float
    whole: int
    may_fill: int
    known: int
    seen: float
    acknowledged: float
    total: float
    promised: float
    keep: float
    least: float
    wanted: float
    more: float
    leaves: int
    life_ms: int
    budget: int


class Answered(NamedTuple):
    """`filled` false: the counter is empty, and must be filled with what was spent before. `gone`: what gateways held
    of a budget that are not heard of any more."""

    filled: bool
    grown: float
    spent: float
    free: float
    wait_ms: float
    gone: float


class Counter:
    __slots__ = (
        "_acknowledged", "_had", "_held", "_low", "_own", "_own_noted", "_pace", "_scanned", "_sent", "_typical",
        "_visited_at", "asked_least", "asked_sum", "due", "ends", "free", "gone_held", "is_budget", "key", "kind",
        "known", "left", "limit", "may_fill", "period", "promised", "refused_least", "refused_until", "scope", "seen",
        "seen_at", "total", "used_at", "wait_seconds", "whole", "window",
    )  # fmt: skip

    def __init__(
        self,
        key: str,
        scope: str,
        kind: Kind,
        limit: float,
        *,
        now: float,
        window: float = 0.0,
        period: Period | None = None,
        ends: float = math.inf,
    ) -> None:
        self.key = key
        self.scope = scope
        self.kind = kind
        self.limit = limit
        self.window = window if kind in {Kind.requests, Kind.tokens} else 0.0
        self.period = period
        self.ends = ends
        self.is_budget = period is not None
        self.whole = kind is not Kind.money_budget

        self.left = 0.0
        self.promised = 0.0
        self.total = 0.0
        self._acknowledged = 0.0
        self._held = 0.0
        self._sent = 0.0

        self.seen = 0.0
        self.seen_at = -math.inf
        self.free = limit
        self.gone_held = 0.0
        self.known = False
        self.may_fill = not self.is_budget
        """An empty counter of a budget is filled from what Postgres knows before anything is granted out of it."""

        self.asked_sum = 0.0
        self.asked_least = math.inf
        self.refused_least = math.inf
        self.refused_until = -math.inf
        self.wait_seconds = -1.0

        self.due = now
        self.used_at = now
        self._scanned = (0.0, 0.0)
        self._visited_at = now
        self._had = 0.0
        self._low = 0.0
        self._pace = 0.0
        self._typical = 0.0
        self._own: deque[tuple[float, float]] = deque()
        self._own_noted = 0.0

    @property
    def gone(self) -> bool:
        return self.left == GONE

    @property
    def unacknowledged(self) -> float:
        return self.total - self._acknowledged

    def change_limit(self, limit: float) -> None:
        """What it had out of the old limit goes back at the next visit."""
        if limit != self.limit:
            self.free += limit - self.limit
            self.limit = limit
            self.left = min(self.left, 0.0)
            self.refused_until = -math.inf
            self.due = -math.inf

    def scan(self, now: float) -> bool:
        """Whether a visit is due: to renew the portion, to refill it before a request finds it empty, or because so
        much was spent that others should know."""
        looks = (self.total, self.promised)
        if looks != self._scanned:
            self._scanned = looks
            self.used_at = now
        return self.due <= now or self.left < self._low or 0 < self.unacknowledged >= self.limit * UNTOLD_SHARE

    def ask(self, need: float) -> None:
        self.asked_sum += need
        self.asked_least = min(self.asked_least, need)
        self._typical = max(self._typical, need)

    def refuses(self, need: float, now: float) -> bool:
        """What was settled here since then may have made room."""
        return need >= self.refused_least and now < self.refused_until and self.left <= self._had

    def visit(self, now: float, gateways: int, *, idle_seconds: float, life_ms: int) -> Visit:
        """What is not kept is given up here already, so that what is promised during the visit cannot pass what Redis
        is told. A visit that failed can be made again: all it tells is absolute."""
        elapsed = max(now - self._visited_at, 0.02)
        self._pace = max((self._had - self.left) / elapsed, self._pace * 0.8)
        self._visited_at = now
        target = max(self._pace * AHEAD_SECONDS, self._typical * AHEAD_REQUESTS, self.promised / 2)
        self._typical *= 0.98
        if self.is_budget:
            target = min(target, self.limit * PORTION_SHARE)
        if not self.whole and abs(self.promised) < DUST:
            self.promised = 0.0
        idle = not self.asked_sum and now - self.used_at >= idle_seconds
        had = max(self.left, 0.0)
        calm = not self.asked_sum and now - self.used_at >= CALM_SECONDS
        if calm:
            keep = 0.0
        elif self.asked_sum:
            keep = had
        else:
            keep = min(had, 2 * target, max(0.0, self.free + had) / (2 * gateways))
        if self.whole:
            keep, target = float(math.floor(keep)), float(math.ceil(target))
        self.left = keep
        self._low = 0.0 if calm else target / 2
        self._sent = self.total
        asked, least = self.asked_sum, self.asked_least
        self.asked_sum, self.asked_least = 0.0, math.inf
        return Visit(
            window_ms=self.window * 1000,
            limit=self.limit,
            whole=int(self.whole),
            may_fill=int(self.may_fill),
            known=int(self.known),
            seen=self.seen if not self.window or now - self.seen_at < self.window else 0.0,
            acknowledged=self._acknowledged,
            total=self.total,
            promised=self.promised,
            keep=keep,
            least=max(least - keep, 0.0) if asked else 0.0,
            wanted=max(asked - keep, 0.0),
            more=0.0 if calm else max(target - keep, 0.0),
            leaves=int(idle and not self.promised),
            life_ms=life_ms,
            budget=int(self.is_budget),
        )

    def heard(self, visit: Visit, answer: Answered, now: float) -> None:
        grown, free, wait_ms = answer.grown, answer.free, answer.wait_ms
        self.left += grown
        self._had = self.left
        self._held = visit.promised + visit.keep + grown
        self._acknowledged = self._sent
        self._own.clear()
        self._own_noted = self._sent
        self.seen, self.seen_at, self.free, self.gone_held = answer.spent, now, free, answer.gone
        self.known = True
        self.may_fill = not self.is_budget
        self.wait_seconds = wait_ms / 1000 if wait_ms >= 0 else -1.0
        tight = free < visit.more or free < self.limit * 0.05
        self.due = now + (0.0 if tight and self.left > 0 else RENEW_SECONDS)
        if visit.wanted > 0 and grown < visit.least:
            self.refused_least = visit.least + visit.keep
            self.refused_until = now + REFUSED_SECONDS
        else:
            self.refused_until = -math.inf

    def may_leave(self, visit: Visit) -> bool:
        """After a visit that said so, unless it was used again meanwhile."""
        return bool(visit.leaves) and not (self.asked_sum or self.promised or self.unacknowledged)

    def leave(self) -> None:
        self.left = GONE

    def on_its_own(self, now: float, gateways: int) -> None:
        """Without Redis: an even share of what was left when it was last seen, and at least the own portion. What
        others hold of a budget is theirs."""
        self.due = now
        if self.window:
            self._slide(now)
        seen = 0.0 if self.window and now - self.seen_at >= self.window else self.seen
        share = (self.limit - seen) / gateways
        if self.is_budget:
            share = self._held + max(0.0, min(self.free, self.limit - seen - self.gone_held)) / gateways
        if self.kind in {Kind.requests, Kind.concurrency}:
            share = math.ceil(share)
        self.left = max(self.left, share - self.unacknowledged - self.promised)

    def _slide(self, now: float) -> None:
        """What this gateway spent before the window began is not told to Redis any more: it would count as of now."""
        if self.total > self._own_noted:
            self._own.append((now, self.total - self._own_noted))
            self._own_noted = self.total
        while self._own and self._own[0][0] <= now - self.window:
            _, amount = self._own.popleft()
            amount = min(amount, self.unacknowledged)
            self.total -= amount
            self._own_noted -= amount
