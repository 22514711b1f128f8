"""One request offered to one upstream after another, of the model that was asked for and then of those in its place, as
long as the caller has seen nothing of an answer."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from loguru import logger

from inference_service.gateway import bodies, metrics
from inference_service.gateway.connections import Connections
from inference_service.gateway.directory import Model
from inference_service.gateway.errors import Cut, Lost, Refusal, Said
from inference_service.gateway.exchange import Limits, Outcome, exchange
from inference_service.gateway.orders import Order
from inference_service.gateway.quota import FREE, Full, Grant, Kind, Quota
from inference_service.gateway.reply import Reply
from inference_service.gateway.targets import Target
from inference_service.gateway.tracing import Tracing
from inference_service.gateway.waiting import Waiting

USUAL_OUTPUT_TOKENS = 256
"""Of a caller that bounds its answer by nothing."""
SLOT_SECONDS = 0.02
"""Until one of many requests at a provider may have ended."""
PAUSE_SECONDS = 1.0
"""For an upstream that says 429 and not for how long."""


@dataclass(slots=True)
class Course:
    """What came of a request. `not_ours`: seconds that others took before the first byte. `left`: by its caller."""

    model: Model | None = None
    target: Target | None = None
    outcome: Outcome = field(default_factory=Outcome)
    not_ours: float = 0.0
    left: bool = False


class Tries:
    def __init__(
        self,
        waiting: Waiting,
        quota: Quota,
        connections: Connections,
        limits: Limits,
        most: int,
        tracing: Tracing | None = None,
    ) -> None:
        self._waiting = waiting
        self._tracing = tracing
        self._quota = quota
        self._connections = connections
        self._limits = limits
        self._most = most

    async def answer(
        self, models: Sequence[Model], order: Order, affinity: int | None, reply: Reply, course: Course
    ) -> None:
        """Raises what was wrong with the model that was asked for, not with the last in its place."""
        first: Refusal | _Spent | None = None
        for place, model in enumerate(models):
            named = order
            if model.name != order.model:
                body = bodies.with_model(order.body, order.content, model.name)
                content = {**order.content, "model": model.name}
                named = order.of(model.name, body, content)
            try:
                await self._upstreams(model, named, affinity, reply, course, last=place == len(models) - 1)
            except (Refusal, _Spent) as trouble:
                first = first or trouble
                continue
            if place:
                metrics.of_model(model.name).fell_back.inc()
            return
        assert first is not None
        if isinstance(first, Refusal):
            raise first
        if first.said is None:
            raise first.refusal
        await reply.start(first.said.status, first.said.headers)
        await reply.end(first.said.body)

    async def _upstreams(
        self, model: Model, order: Order, affinity: int | None, reply: Reply, course: Course, *, last: bool
    ) -> None:
        tried: list[Target] = []
        counted = metrics.of_model(model.name)
        said: Said | None = None
        blamed = False
        full: Full | None = None
        while True:
            waits_from = time.perf_counter()
            try:
                target = await self._waiting.target(
                    model, order.path, tried, affinity, patient=last and said is None, last_resort=last
                )
            except Refusal as refusal:
                raise _rather(refusal, model, said, full) from None
            asks_from = time.perf_counter()
            course.not_ours += asks_from - waits_from
            grant = await self._admitted(target, order)
            if isinstance(grant, Full):
                full = grant
                _close(target, full)
                tried.append(target)
                continue
            course.model, course.target, course.outcome = model, target, Outcome()
            reply.tells(b"x-imts-model", model.name.encode())
            try:
                await self._exchange(target, order, reply, course.outcome)
            except Lost as lost:
                course.not_ours += time.perf_counter() - asks_from
                if lost.again:
                    continue
                counted.tries_lost.inc()
                logger.warning("try lost", model=model.name, upstream=target.replica, problem=str(lost))
                if not lost.blameless:
                    _leave_alone(target, lost)
                    # that another cannot take the request is no reason where this one could have
                    said, blamed = lost.said or (said if blamed else None), True
                elif not blamed:
                    said = lost.said or said
                tried.append(target)
                if len(tried) >= self._most:
                    raise _Spent(len(tried), lost, said) from None
                continue
            except Cut:
                course.not_ours += course.outcome.engine
                target.failed()
                raise
            finally:
                used = course.outcome.tokens
                grant.settle(used.input + used.output, 0.0)
            course.not_ours += course.outcome.engine
            if not course.outcome.failed:
                target.answered()
            return

    async def _exchange(self, target: Target, order: Order, reply: Reply, outcome: Outcome) -> None:
        if self._tracing is None:
            await exchange(self._connections, target, order, self._limits, reply, outcome)
            return
        headers = dict(order.headers)
        with self._tracing.attempt(order.model, target.replica, headers):
            named = replace(order, headers=headers)
            await exchange(self._connections, target, named, self._limits, reply, outcome)

    async def _admitted(self, target: Target, order: Order) -> Grant | Full:
        """What the provider shall be sent at most, over all gateways."""
        if target.limits is None or target.provided is None:
            return FREE
        scopes = self._quota.upstream(target.provided.identity, target.limits)
        given, made = bodies.guessed_tokens(order.path, order.body, order.content)
        tokens = given + (made or USUAL_OUTPUT_TOKENS) * order.answers
        return self._quota.try_admit(scopes, tokens, 0.0) or await self._quota.ask(scopes, tokens, 0.0)


def _close(target: Target, full: Full) -> None:
    """Not for want of tokens: a smaller request may still be taken."""
    if full.kind is Kind.concurrency:
        target.wants_none_for(SLOT_SECONDS)
    elif full.kind is not Kind.tokens:
        target.wants_none_for(full.retry_seconds or PAUSE_SECONDS)


def _rather(refusal: Refusal, model: Model, said: Said | None, full: Full | None) -> "Refusal | _Spent":
    """What was heard on the way tells more than that nobody is left."""
    if said is not None:
        return _Spent(said=said)
    return refusal if full is None or full.kind is not Kind.tokens else _too_much(model, full)


def _too_much(model: Model, full: Full) -> Refusal:
    message = (
        f"This request may need {full.need:,.0f} tokens, and a provider of the model `{model.name}` is to be asked for "
        f"{full.limit:,.0f} a minute at most"
    )
    if full.need > full.limit:
        message += ": ask for fewer with max_tokens."
        return Refusal(429, message, code="upstream_rate_limited", headers={"x-should-retry": "false"})
    told = {"retry-after": str(max(1, math.ceil(full.retry_seconds or PAUSE_SECONDS)))}
    return Refusal(429, f"{message}: try again later.", code="upstream_rate_limited", headers=told)


class _Spent(Exception):
    """No upstream of a model is left."""

    def __init__(self, tries: int = 0, lost: Lost | None = None, said: Said | None = None) -> None:
        super().__init__()
        self.said = said
        self.refusal = _given_up(tries, lost)


def _leave_alone(target: Target, lost: Lost) -> None:
    """Too many requests are no failure. Whoever fails and says for how long is left alone for so long at least."""
    status, seconds = (lost.said.status, lost.said.retry_after) if lost.said is not None else (None, None)
    if status == 429 or seconds is not None:
        target.wants_none_for(PAUSE_SECONDS if seconds is None else seconds)
    if status != 429:
        target.failed()


def _given_up(tries: int, lost: Lost | None) -> Refusal:
    if lost is not None and lost.timed_out:
        return Refusal(504, f"{tries} engines in turn gave no answer in time.", code="engine_timeout")
    return Refusal(502, f"{tries} engines in turn gave no answer.", code="engine_failed", headers={"retry-after": "2"})
