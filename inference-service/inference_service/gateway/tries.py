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
from inference_service.gateway.exchange import Limits, Outcome, as_said, exchange
from inference_service.gateway.lengths import Lengths
from inference_service.gateway.orders import Order, Speech
from inference_service.gateway.quota import FREE, Full, Grant, Kind, Quota
from inference_service.gateway.reply import Reply
from inference_service.gateway.speech import speech
from inference_service.gateway.targets import Target
from inference_service.gateway.tracing import Tracing
from inference_service.gateway.waiting import RATE_LIMITED, Waiting

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
        self._lengths = Lengths()

    async def answer(
        self, models: Sequence[Model], order: Order, affinity: int | None, reply: Reply, course: Course
    ) -> None:
        """Raises what was wrong with the model that was asked for, not with the last in its place. Upstreams that rest
        are passed over as long as another model may answer, and nobody is waited for as long as one that rests may."""
        offered = [_Offered(model) for model in models]
        waited_for = next((one for one in reversed(offered) if one.may_come), offered[-1])
        turns = ((False, False), (True, False), (True, True)) if len(offered) > 1 else ((True, True),)
        for last_resort, waits in turns:
            for one in offered:
                patient = waits and one is waited_for
                one.trouble = await self._upstreams(
                    one, order, affinity, reply, course, patient=patient, last_resort=last_resort
                )
                if one.trouble is None:
                    if one is not offered[0]:
                        metrics.of_model(one.model.name).fell_back.inc()
                    return
        trouble = offered[0].trouble
        if isinstance(trouble, Refusal):
            raise trouble
        assert trouble is not None
        await reply.start(trouble.status, trouble.headers)
        await reply.end(trouble.body)

    async def _upstreams(
        self,
        one: "_Offered",
        asked: Order,
        affinity: int | None,
        reply: Reply,
        course: Course,
        *,
        patient: bool,
        last_resort: bool,
    ) -> Refusal | Said | None:
        """None: the model has answered; else why not."""
        model = one.model
        order = asked if model.name == asked.model else _of(asked, model.name)
        while one.tries < self._most:
            waits_from = time.perf_counter()
            try:
                target = await self._waiting.target(
                    model,
                    order.path,
                    one.passed,
                    affinity,
                    patient=patient and one.said is None,
                    last_resort=last_resort,
                )
            except Refusal as refusal:
                paused = refusal.code == RATE_LIMITED and not one.blamed
                if one.said is not None and not paused:
                    return one.said
                if one.full is not None:
                    return _too_much(model, one.full)
                return _given_up(one) if one.timed_out else refusal
            course.not_ours += time.perf_counter() - waits_from
            if await self._answered(one, target, order, reply, course):
                return None
        return one.said or _given_up(one)

    async def _answered(self, one: "_Offered", target: Target, order: Order, reply: Reply, course: Course) -> bool:
        asks_from = time.perf_counter()
        try:
            words = speech(order, target)
        except Refusal as refusal:
            one.cannot_say(target, refusal)
            return False
        grant, open_ended = await self._admitted(target, order)
        if isinstance(grant, Full):
            one.has_no_room(target, grant)
            return False
        course.model, course.target, course.outcome = one.model, target, Outcome()
        reply.tells(b"x-imts-model", one.model.name.encode())
        whole = False
        try:
            await self._exchange(target, order, words, reply, course.outcome)
            whole = not course.outcome.failed
        except Lost as lost:
            course.not_ours += time.perf_counter() - asks_from
            if not lost.again:
                one.lost(target, lost)
            return False
        except Cut:
            course.not_ours += course.outcome.engine
            target.failed()
            raise
        finally:
            used = course.outcome.tokens
            grant.settle(used.input + used.output, 0.0)
            if open_ended and used.output:
                self._lengths.learn(_identity(target), order.model, used.output // order.answers, whole=whole)
        course.not_ours += course.outcome.engine
        if whole:
            target.answered()
        return True

    async def _exchange(self, target: Target, order: Order, words: Speech, reply: Reply, outcome: Outcome) -> None:
        if self._tracing is None:
            await exchange(self._connections, target, order, words, self._limits, reply, outcome)
            return
        headers = dict(words.headers)
        with self._tracing.attempt(order.model, target.replica, headers):
            traced = replace(words, headers=headers)
            await exchange(self._connections, target, order, traced, self._limits, reply, outcome)

    async def _admitted(self, target: Target, order: Order) -> tuple[Grant | Full, bool]:
        """What the provider shall be sent at most, over all gateways; and whether nobody has bounded the answer."""
        if target.limits is None or target.provided is None:
            return FREE, False
        scopes = self._quota.upstream(target.provided.identity, target.limits)
        given, made = bodies.guessed_tokens(order.path, order.body, order.content)
        made *= order.answers
        open_ended = not made and order.answers > 0
        if open_ended:
            room = target.limits.tokens_per_minute or math.inf
            made = self._lengths.expected(_identity(target), (order.model,), room, order.answers)
        tokens = given + made
        return self._quota.try_admit(scopes, tokens, 0.0) or await self._quota.ask(scopes, tokens, 0.0), open_ended


@dataclass(slots=True)
class _Offered:
    """A model that the request is offered to, and what has come of it."""

    model: Model
    passed: list[Target] = field(default_factory=list)
    """Its upstreams that were tried, or could not be."""
    tries: int = 0
    said: Said | None = None
    blamed: bool = False
    """One could not, and not for the request's sake: that another cannot take it is no reason then."""
    full: Full | None = None
    timed_out: bool = False
    trouble: Refusal | Said | None = None

    @property
    def may_come(self) -> bool:
        """It is a deployment whose engines may be there in a while."""
        served = self.model.served
        return served is not None and served.state not in {"failed", "stopped"}

    def cannot_say(self, target: Target, refusal: Refusal) -> None:
        self.passed.append(target)
        if not self.blamed:
            self.said = as_said(refusal)

    def has_no_room(self, target: Target, full: Full) -> None:
        self.full = full if full.kind is Kind.tokens else None
        _close(target, full)
        self.passed.append(target)
        self._could_have()

    def _could_have(self) -> None:
        """One that can take the request: that another cannot is no reason any more."""
        self.said, self.blamed = self.said if self.blamed else None, True

    def lost(self, target: Target, lost: Lost) -> None:
        name = self.model.name
        metrics.of_model(name).tries_lost.inc()
        logger.warning("try lost", model=name, upstream=target.replica, problem=str(lost))
        if not lost.blameless:
            _leave_alone(target, lost)
            self._could_have()
            self.said = lost.said or self.said
        elif not self.blamed:
            self.said = lost.said or self.said
        self.timed_out = lost.timed_out
        self.passed.append(target)
        self.tries += 1


def _of(order: Order, name: str) -> Order:
    body = bodies.with_model(order.body, order.content, name)
    return order.of(name, body, {**order.content, "model": name})


def _identity(target: Target) -> str:
    assert target.provided is not None
    return target.provided.identity


def _close(target: Target, full: Full) -> None:
    """Not for want of tokens: a smaller request may still be taken."""
    if full.kind is Kind.concurrency:
        target.wants_none_for(SLOT_SECONDS)
    elif full.kind is not Kind.tokens:
        target.wants_none_for(full.retry_seconds or PAUSE_SECONDS)


def _too_much(model: Model, full: Full) -> Refusal:
    message = (
        f"This request may need {full.need:,.0f} tokens, and a provider of the model `{model.name}` is to be asked for "
        f"{full.limit:,.0f} a minute at most"
    )
    if full.need > full.limit:
        message += ": ask for fewer with max_tokens."
        return Refusal(429, message, code=RATE_LIMITED, headers={"x-should-retry": "false"})
    told = {"retry-after": str(max(1, math.ceil(full.retry_seconds or PAUSE_SECONDS)))}
    return Refusal(429, f"{message}: try again later.", code=RATE_LIMITED, headers=told)


def _leave_alone(target: Target, lost: Lost) -> None:
    """Too many requests are no failure. Whoever fails and says for how long is left alone for so long at least."""
    status, seconds = (lost.said.status, lost.said.retry_after) if lost.said is not None else (None, None)
    if status == 429 or seconds is not None:
        target.wants_none_for(PAUSE_SECONDS if seconds is None else seconds)
    if status != 429:
        target.failed()


def _given_up(one: _Offered) -> Refusal:
    asked = "One engine" if one.tries == 1 else f"{one.tries} engines in turn"
    if one.timed_out:
        return Refusal(504, f"{asked} gave no answer in time.", code="engine_timeout")
    message = f"{asked} gave no answer."
    return Refusal(502, message, code="engine_failed", headers={"retry-after": "2"})
