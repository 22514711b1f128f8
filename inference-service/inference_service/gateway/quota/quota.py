"""Admission, and the beat at which this gateway tells Redis what it spent."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from loguru import logger

from imts_shared.contracts.limits import Limits
from imts_shared.contracts.providers import UpstreamLimits
from imts_shared.contracts.usage import SpentScope
from inference_service.gateway.quota.counter import Counter
from inference_service.gateway.quota.filling import Filling
from inference_service.gateway.quota.refusals import Full, full, refusal
from inference_service.gateway.quota.scopes import FREE, MARGIN, Grant, Scopes, held, needs, take
from inference_service.gateway.quota.store import Away, Store
from inference_service.gateway.quota.table import Table

Clock = Callable[[], float]

ROUNDS = 50
"""Of one request that others are always quicker than."""
BATCH = 50
QUIET_SECONDS = 0.5
"""Where nothing is due, Redis is visited so seldom, to be known as one that lives and to hear that it is there."""
TRUSTED_SECONDS = 1.0
"""Portions are renewed so often that for so long after a beat all of them are this gateway's own."""


@dataclass(frozen=True)
class Settings:
    window_seconds: float = 60.0
    beat_seconds: float = 0.1
    patience_seconds: float = 0.1
    idle_seconds: float = 5.0
    fill_seconds: float = 2.0


class Quota:
    """One in a process. `spent` asks the control plane what Postgres knows of the running periods."""

    def __init__(
        self,
        redis_url: str,
        spent: Callable[[], Awaitable[Sequence[SpentScope]]],
        settings: Settings | None = None,
        *,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
    ) -> None:
        self._settings = settings or Settings()
        self._clock = clock
        self._store = Store(redis_url, secrets.token_hex(8), self._settings.patience_seconds)
        self._table = Table(self._settings.window_seconds, clock, wall)
        self._filling = Filling(spent, clock, wall, self._filled)
        self._trusted_until = -float("inf")
        self._asked: dict[str, Counter] = {}
        self._answered = asyncio.Event()
        self._wake = asyncio.Event()
        self._closing = False
        self.beating: asyncio.Task[None] | None = None
        """Lives as long as the quota; requests would wait for ever without it."""
        self.problem: str | None = None
        """Why Redis is not heard, and each gateway goes on with its share."""

    @property
    def gateways(self) -> int:
        return self._store.gateways

    def __len__(self) -> int:
        """Counters in memory."""
        return len(self._table.counters)

    async def start(self) -> None:
        await self._visit([])
        self.beating = asyncio.create_task(self._beat())

    async def close(self) -> None:
        """Gives all portions back at once; without it they fall back after some seconds."""
        self._closing = True
        self._wake.set()
        if self.beating is not None:
            await self.beating
        await self._filling.close()
        if self.problem is None:
            counters = list(self._table.counters.values())
            for counter in counters:
                counter.used_at = -float("inf")
            for at in range(0, len(counters) or 1, BATCH):
                await self._visit(counters[at : at + BATCH], leaves=True)
        await self._store.close()

    def scopes(
        self, key_id: str, key_limits: Limits | None, project: str | None, project_limits: Limits | None
    ) -> Scopes | None:
        """None: nothing limits this caller. To be asked for each request, so that changed limits are in force with the
        snapshot that brings them."""
        if key_limits is None and project_limits is None:
            return None
        return self._table.of_caller(key_id, key_limits, project, project_limits)

    def upstream(self, provider_id: str, limits: UpstreamLimits) -> Scopes | None:
        return self._table.of_upstream(provider_id, limits)

    def route(self, project: str, name: str, limits: Limits) -> Scopes | None:
        return self._table.of_route(project, name, limits)

    def try_admit(self, scopes: Scopes | None, tokens: float, money: float) -> Grant | None:
        """None: Redis must be asked."""
        if scopes is None:
            return FREE
        if self._clock() > self._trusted_until:
            return None
        return take(scopes, tokens, tokens * MARGIN, money * MARGIN)

    async def admit(self, scopes: Scopes | None, tokens: float, money: float) -> Grant:
        found = self.try_admit(scopes, tokens, money) or await self.ask(scopes, tokens, money)
        if isinstance(found, Full):
            raise refusal(found)
        return found

    async def ask(self, scopes: Scopes | None, tokens: float, money: float) -> Grant | Full:
        """After `try_admit` said None. What a full limit means is for the caller to judge: another upstream may have
        room."""
        if scopes is None:
            return FREE
        fresh = False
        missing: list[tuple[Counter, float]] = []
        for _ in range(ROUNDS):
            scopes = self._table.current(scopes)
            if unknown := await self._unknown(scopes):
                return full(unknown, 0.0, known=False)
            tokens_held, money_held = held(tokens, scopes.token_budgets), held(money, scopes.money_budgets)
            now = self._clock()
            if self.problem is not None:
                for counter in scopes.counters:
                    counter.on_its_own(now, self.gateways)
            if fresh or self.problem is not None or now <= self._trusted_until:
                if grant := take(scopes, tokens, tokens_held, money_held):
                    return grant
                missing = needs(scopes, tokens, tokens_held, money_held)
                for counter, need in missing:
                    if need > counter.limit or self.problem is not None or counter.refuses(need, now):
                        return full(counter, need)
            else:
                missing = [(counter, 0.0) for counter in scopes.counters]
            await self._visited(missing)
            fresh = True
        return full(*(missing or [(scopes.counters[0], 1.0)])[0])

    async def _unknown(self, scopes: Scopes) -> Counter | None:
        """A budget of which nobody could say in time what was spent. With Redis away its share is used all the same."""
        filling = self._filling
        if self.problem is not None and not filling.failing:
            for counter in scopes.counters:
                if counter.is_budget and not counter.known:
                    filling.add(counter)
        until = self._clock() + self._settings.fill_seconds
        while unknown := next((counter for counter in scopes.counters if filling.wants(counter)), None):
            left = until - self._clock()
            if filling.failing or left <= 0:
                return None if self.problem is not None else unknown
            await filling.wait(left)
        return None

    async def _visited(self, missing: Sequence[tuple[Counter, float]]) -> None:
        for counter, need in missing:
            counter.ask(need)
            self._asked[counter.key] = counter
        answered = self._answered
        self._wake.set()
        await answered.wait()

    def _filled(self, counters: Sequence[Counter]) -> None:
        self._asked.update((counter.key, counter) for counter in counters)
        self._wake.set()

    async def _beat(self) -> None:
        """Visits at every beat those that have something to tell, and at once those that a request waits for.

        It is not ended by cancelling it: Redis' client may lose that.
        """
        next_at = self._clock()
        while not self._closing:
            self._wake.clear()
            await self._visit_asked()
            if (now := self._clock()) >= next_at:
                due = self._table.due(now)
                if due or now + TRUSTED_SECONDS - self._trusted_until >= QUIET_SECONDS:
                    await self._visit_all(due)
                    self._trusted_until = now + TRUSTED_SECONDS
                next_at = now + self._settings.beat_seconds
            try:
                async with asyncio.timeout(max(0.0, next_at - self._clock())):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _visit_all(self, due: Sequence[Counter]) -> None:
        for at in range(0, len(due) or 1, BATCH):
            await self._visit(due[at : at + BATCH])
            if self.problem is not None:
                for counter in due[at + BATCH :]:
                    counter.on_its_own(self._clock(), self.gateways)
                return
            await self._visit_asked()

    async def _visit_asked(self) -> None:
        """All requests that wait share one visit."""
        asked, self._asked = self._asked, {}
        answered, self._answered = self._answered, asyncio.Event()
        try:
            if asked:
                await self._visit(list(asked.values()))
        finally:
            answered.set()

    async def _visit(self, counters: Sequence[Counter], *, leaves: bool = False) -> None:
        now, settings = self._clock(), self._settings
        visits = []
        for counter in counters:
            life_ms = self._table.life_ms(counter)
            visits.append(counter.visit(now, self.gateways, idle_seconds=settings.idle_seconds, life_ms=life_ms))
        keys = [counter.key for counter in counters]
        try:
            answers = await self._store.visit(list(zip(keys, visits, strict=True)), leaves=leaves)
        except Away as error:
            self._say(str(error))
            for counter in counters:
                counter.on_its_own(now, self.gateways)
            return
        self._say(None)
        now = self._clock()
        for counter, visit, answer in zip(counters, visits, answers, strict=True):
            if not answer.filled:
                self._filling.add(counter)
                continue
            counter.heard(visit, answer, now)
            if counter.may_leave(visit):
                self._table.drop(counter)

    def _say(self, problem: str | None) -> None:
        """Once for each change, not once for each try."""
        if (problem is None) != (self.problem is None):
            if problem is None:
                logger.info("redis heard, limits hold over all gateways")
            else:
                logger.warning(
                    "redis not heard, going on with an even share of each limit",
                    problem=problem,
                    gateways=self.gateways,
                )
        self.problem = problem
