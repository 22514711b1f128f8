"""What a request may cost, and what it did: limits before it, counts after it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from imts_shared.contracts.access import RequestLog
from imts_shared.contracts.limits import Limits
from inference_service.gateway import bodies, logbook, metrics
from inference_service.gateway.afterwards import Afterwards
from inference_service.gateway.counting import Tokens
from inference_service.gateway.decided import Decided
from inference_service.gateway.directory import Caller, Directory, Model
from inference_service.gateway.errors import Refusal
from inference_service.gateway.exchange import AGAINST_THE_REQUEST
from inference_service.gateway.ledger import Ledger
from inference_service.gateway.orders import Order
from inference_service.gateway.quota import MARGIN, Grant, Quota, Scopes, rate_headers
from inference_service.gateway.reply import Reply
from inference_service.gateway.router import Router
from inference_service.gateway.targets import MILLION
from inference_service.gateway.tries import Course

LEFT, BROKEN = 499, 502
"""Logged in place of the 200 with which an answer began that its caller left, or that broke off."""
NOBODY = "none"
"""The upstream of a request that none took."""


USUAL_OUTPUT_TOKENS = 4_096
UNKNOWN_OUTPUT_TOKENS = 16_384
"""Of an answer that its caller bounds by nothing: of a model that his key has heard before, and of any other."""
LEAST_OUTPUT_TOKENS = 256
SHARES = 8
"""Of a limit: so many answers of the usual length fit into it, twice over."""
LENGTH_FADES = 0.98
LENGTH_HALVES_SECONDS = 600.0
MOST_LENGTHS = 10_000


@dataclass(slots=True)
class Bill:
    caller: Caller
    project: str
    order: Order
    began_at: float
    made: Decided | None = None
    grants: list[Grant] = field(default_factory=list)
    refused: bool = False
    """By a rate or a budget: it has used nothing, and nobody was asked."""


class _Longest(NamedTuple):
    tokens: float
    at: float

    def faded(self, now: float) -> float:
        """So that whoever is refused for its sake is not refused for ever."""
        return float(self.tokens * 0.5 ** ((now - self.at) / LENGTH_HALVES_SECONDS))


@dataclass(frozen=True, slots=True)
class _Ended:
    bill: Bill
    course: Course
    reply: Reply
    used: Tokens
    cost: float
    seconds: float


class Accounts:
    def __init__(
        self, directory: Directory, quota: Quota, router: Router, ledger: Ledger, afterwards: Afterwards
    ) -> None:
        self._directory = directory
        self._afterwards = afterwards
        self._quota = quota
        self._router = router
        self._ledger = ledger
        self._longest: dict[tuple[str, str], _Longest] = {}

    async def admit(self, bill: Bill, models: Sequence[Model], reply: Reply) -> None:
        """Raises the Refusal of a rate or a budget that is reached."""
        project = self._directory.project(bill.project)
        if project is not None and project.request_log == RequestLog.full:
            reply.keep()
        limits = (bill.caller.limits, project.limits if project else None)
        scopes = self._quota.scopes(bill.caller.key_id, limits[0], bill.project, limits[1])
        if scopes is not None:
            tokens, money = self._guessed(bill, models, [one for one in limits if one is not None])
            try:
                bill.grants.append(await self._granted(scopes, tokens, money))
            except Refusal:
                bill.refused = True
                raise
            reply.will_tell(lambda: rate_headers(scopes))

    async def admit_question(self, caller: Caller, project: str) -> None:
        """One that no model is asked: it counts as a request, and takes no tokens and no money."""
        found = self._directory.project(project)
        scopes = self._quota.scopes(caller.key_id, caller.limits, project, found.limits if found else None)
        if scopes is not None:
            (await self._granted(scopes, 0, 0)).settle(0, 0)

    def _guessed(self, bill: Bill, models: Sequence[Model], limits: Sequence[Limits]) -> tuple[int, float]:
        """Tokens and money. An answer that its caller bounds by nothing may be as long as the longest that his key has
        had lately, and longer than those; but others beside it shall find room in a small limit, and no limit shall be
        too small for it."""
        order = bill.order
        prices = [offer.target.prices for model in models for offer in model.offers]
        given, made = bodies.guessed_tokens(order.path, order.body, order.content)
        if not made and order.answers:
            dearest = max([price.output for price in prices], default=0.0) / MILLION
            made = self._unbounded(bill.caller.key_id, models, _least(limits, dearest))
        made *= order.answers
        return given + made, max([price.cost(given, 0, made) for price in prices], default=0.0)

    def _unbounded(self, key_id: str, models: Sequence[Model], least: float) -> int:
        """`least`: tokens that the smallest limit has room for."""
        longest = [self._longest.get((key_id, model.name)) for model in models]
        usual = UNKNOWN_OUTPUT_TOKENS if None in longest else USUAL_OUTPUT_TOKENS
        now = time.monotonic()
        lately = max([one.faded(now) for one in longest if one is not None], default=0.0)
        wanted = max(lately, min(usual, least / SHARES))
        return int(max(LEAST_OUTPUT_TOKENS, min(wanted, least / MARGIN)))

    def _learn_length(self, key_id: str, model: str, tokens: int) -> None:
        now, which = time.monotonic(), (key_id, model)
        before = self._longest.pop(which, _Longest(0.0, now))
        self._longest[which] = _Longest(max(float(tokens), LENGTH_FADES * before.faded(now)), now)
        if len(self._longest) > MOST_LENGTHS:
            del self._longest[next(iter(self._longest))]

    async def _granted(self, scopes: Scopes, tokens: float, money: float) -> Grant:
        try:
            return self._quota.try_admit(scopes, tokens, money) or await self._quota.admit(scopes, tokens, money)
        except Refusal as refusal:
            metrics.LIMITED.labels(refusal.code or "").inc()
            raise

    def settle(self, bill: Bill, course: Course, reply: Reply) -> None:
        """To be called once for each request, however it ended. Limits know at once what it used; all else is noted
        afterwards."""
        target, outcome = course.target, course.outcome
        used = outcome.tokens
        if not used.told and (used.output or (course.left and outcome.asked)):
            given = used.input or bodies.guessed_prompt(bill.order.body)
            used = Tokens(given, used.cached, used.output)
        cost = target.prices.cost(used.input, used.cached, used.output) if target else 0.0
        for grant in bill.grants:
            grant.settle(used.input + used.output, cost)
        ended = _Ended(bill, course, reply, used, cost, time.perf_counter() - bill.began_at)
        self._afterwards.add(lambda: self._note(ended))

    def _note(self, ended: _Ended) -> None:
        bill, course, reply, used, cost = ended.bill, ended.course, ended.reply, ended.used, ended.cost
        target, outcome = course.target, course.outcome
        if reply.began_at:
            first = reply.began_at - bill.began_at
            asked = metrics.of_model(bill.order.model)
            asked.first_byte.observe(first)
            asked.overhead.observe(max(0.0, first - course.not_ours))
        answered = course.model.name if course.model else bill.made.model if bill.made else bill.order.model
        failed = not course.left and (outcome.failed or reply.status >= 400 or not reply.status)
        upstream = target.name if target else NOBODY
        if not bill.refused:
            self._ledger.count(bill.caller.key_id, bill.project, answered, upstream, used, cost, failed=failed)
        self._log(ended, answered, upstream)
        if bill.made is not None:
            seconds = None if course.left else ended.seconds
            nothing_said = course.left and not reply.started
            tried = target is not None and not nothing_said and reply.status not in AGAINST_THE_REQUEST
            body = None if failed or course.left else bill.order.body
            self._router.finished(bill.made, answered, used, cost, seconds, failed=failed, tried=tried, body=body)
        if used.input or used.output:
            self._learn_length(bill.caller.key_id, answered, used.output)
            counted = metrics.of_model(answered)
            counted.input.inc(used.input)
            counted.output.inc(used.output)
            if cost:
                counted.cost.inc(cost)

    def _log(self, ended: _Ended, answered: str, upstream: str) -> None:
        bill, course, reply = ended.bill, ended.course, ended.reply
        level = self._directory.logs(bill.project)
        if level == RequestLog.off:
            return
        status = LEFT if course.left else BROKEN if reply.status == 200 and course.outcome.failed else reply.status
        about = {
            "requestId": bill.order.identity,
            "project": bill.project,
            "keyId": bill.caller.key_id,
            "model": answered,
            "asked": bill.order.model,
            "upstream": upstream,
            "status": status,
            "seconds": ended.seconds,
            "decisionId": bill.made.id if bill.made else None,
        }
        kept = bytes(reply.kept) if reply.kept else None
        self._ledger.logged(logbook.entry(level, about, ended.used, bill.order, kept))


def _least(limits: Sequence[Limits], dearest: float) -> float:
    """Tokens, of which the answer's cost `dearest` each."""
    rooms = [each for one in limits for each in (one.token_budget, one.tokens_per_minute) if each]
    money = [one.money_budget / dearest for one in limits if one.money_budget] if dearest else []
    return min([*rooms, *money], default=math.inf)
