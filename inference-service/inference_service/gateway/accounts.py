"""What a request may cost, and what it did: limits before it, counts after it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

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
from inference_service.gateway.lengths import Lengths
from inference_service.gateway.orders import Order
from inference_service.gateway.quota import Grant, Quota, Scopes, rate_headers
from inference_service.gateway.reply import Reply
from inference_service.gateway.router import Router
from inference_service.gateway.targets import MILLION
from inference_service.gateway.tries import Course

LEFT, BROKEN = 499, 502
"""Logged in place of the 200 with which an answer began that its caller left, or that broke off."""
NOBODY = "none"
"""The upstream of a request that none took."""


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
    open_ended: bool = False
    """Nobody has bounded its answer, and how long it would be was guessed."""


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
        self._lengths = Lengths()

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
        """Tokens and money."""
        order = bill.order
        prices = [offer.target.prices for model in models for offer in model.offers]
        given, made = bodies.guessed_tokens(order.path, order.body, order.content)
        made *= order.answers
        if not made and order.answers:
            dearest = max([price.output for price in prices], default=0.0) / MILLION
            names = [model.name for model in models]
            made = self._lengths.expected(bill.caller.key_id, names, _least(limits, dearest), order.answers)
            bill.open_ended = True
        return given + made, max([price.cost(given, 0, made) for price in prices], default=0.0)

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
            if bill.open_ended:
                length = used.output // bill.order.answers
                self._lengths.learn(bill.caller.key_id, answered, length, whole=not (failed or course.left))
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
