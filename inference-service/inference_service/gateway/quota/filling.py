"""Counters of budgets that are empty in Redis, and wait to hear what was spent before."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from loguru import logger

from imts_shared.contracts.usage import SpentScope
from inference_service.gateway.control_plane import Unanswered
from inference_service.gateway.quota.counter import Counter, Kind
from inference_service.gateway.quota.periods import covers

BELIEVED_SECONDS = 1.0
AGAIN_SECONDS = 0.5

Clock = Callable[[], float]


class Filling:
    """`spent` raises Unanswered while the control plane is away. `filled` hears of counters that may be filled now."""

    def __init__(
        self,
        spent: Callable[[], Awaitable[Sequence[SpentScope]]],
        clock: Clock,
        wall: Clock,
        filled: Callable[[Sequence[Counter]], None],
    ) -> None:
        self._spent = spent
        self._clock = clock
        self._wall = wall
        self._filled = filled
        self._waiting: dict[str, Counter] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._answer: dict[str, SpentScope] = {}
        self._answered_at = -float("inf")
        self.failing = False

    def wants(self, counter: Counter) -> bool:
        return counter.key in self._waiting

    def add(self, counter: Counter) -> None:
        self._waiting[counter.key] = counter
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._fill())

    async def wait(self, seconds: float) -> None:
        """Until something was heard, or there is no hearing anything just now. A visit that was under way meanwhile may
        have found the counter empty still."""
        if self.failing:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _fill(self) -> None:
        while self._waiting:
            counters = list(self._waiting.values())
            try:
                await self._ask()
            except Unanswered as error:
                if not self.failing:
                    logger.warning("what was spent is not known, budgets wait for it", problem=str(error))
                self.failing = True
                self._say([counter for counter in counters if counter.known])
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            self.failing = False
            for counter in counters:
                counter.seen = max(counter.seen, self._of(counter))
            self._say(counters)

    async def _ask(self) -> None:
        if (now := self._clock()) - self._answered_at >= BELIEVED_SECONDS:
            self._answer = {of.scope: of for of in await self._spent()}
            self._answered_at = now

    def _of(self, counter: Counter) -> float:
        told = self._answer.get(counter.scope)
        if told is None or counter.period is None or not covers(counter.period, told.period_start, self._wall()):
            return 0.0
        return told.money if counter.kind is Kind.money_budget else told.tokens

    def _say(self, counters: Sequence[Counter]) -> None:
        """Where only the gateway's own memory is left, what it saw last is what was spent."""
        for counter in counters:
            counter.known = counter.may_fill = True
            self._waiting.pop(counter.key, None)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._filled(counters)
