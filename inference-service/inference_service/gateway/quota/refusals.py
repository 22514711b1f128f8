"""What a caller is told whose limit is reached, and how much every caller has left."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from imts_shared.contracts.limits import Period
from inference_service.gateway.errors import Headers, Refusal, unavailable
from inference_service.gateway.quota.counter import Counter, Kind
from inference_service.gateway.quota.scopes import Scopes

SOON_SECONDS = 1.0
"""When what is missing may come back, where that depends on requests under way."""

_THIS = {
    Period.day: "today's",
    Period.week: "this week's",
    Period.month: "this month's",
    Period.total: "the",
}


@dataclass(frozen=True, slots=True)
class Full:
    """Why a request is not admitted. `retry_seconds` is None where waiting does not help, or only until the budget
    `renews`; `known` is false where Redis has forgotten a budget and nobody could yet say what was spent. `gone` is
    what gateways held of a budget that did not end well: it may be spent, and counts so."""

    scope: str
    kind: Kind
    limit: float
    spent: float
    need: float
    retry_seconds: float | None
    period: Period | None = None
    renews: float = math.inf
    known: bool = True
    gone: float = 0.0


def full(counter: Counter, need: float, *, known: bool = True) -> Full:
    spent = counter.seen + counter.unacknowledged
    retry: float | None = SOON_SECONDS
    if not known:
        pass
    elif counter.is_budget:
        if spent + counter.gone_held + need > counter.limit:
            retry = None
    elif need > counter.limit:
        retry = None
    elif counter.wait_seconds >= 0:
        retry = counter.wait_seconds
    return Full(
        counter.scope, counter.kind, counter.limit, spent, need, retry, counter.period, counter.ends, known,
        counter.gone_held,
    )  # fmt: skip


def refusal(full: Full) -> Refusal:
    whose = _whose(full.scope)
    if not full.known:
        return unavailable(f"What {whose} has spent of its budget is being looked up.", "budget_unknown", retry_after=1)
    if full.period is None:
        return _rate(full, whose)
    return _budget(full, whose)


def _rate(full: Full, whose: str) -> Refusal:
    what = "requests at a time" if full.kind is Kind.concurrency else f"{full.kind} a minute"
    message = f"Rate limit of {whose} reached: {full.limit:,.0f} {what}."
    if full.retry_seconds is None:
        if full.kind is Kind.tokens:
            message += f" This request alone may need {full.need:,.0f}: ask for fewer with max_tokens."
        return Refusal(429, message, code="rate_limit_exceeded", headers={"x-should-retry": "false"})
    return _again(f"{message} Try again in {_lasting(full.retry_seconds)}.", full.retry_seconds)


def _budget(full: Full, whose: str) -> Refusal:
    unit = " tokens" if full.kind is Kind.token_budget else ""
    period = full.period or Period.total
    budget = f"{_THIS[period]} {'token ' if unit else ''}budget of {whose}"
    spent = f"{_amount(full.spent, unit)} of {_amount(full.limit, unit)}{unit} are spent"
    if full.retry_seconds is not None:
        message = f"The rest of {budget} is promised to requests under way; {spent}. Try again soon."
        return _again(message, full.retry_seconds)
    some_left = full.spent + full.gone < full.limit
    ended = "has too little left for this request" if some_left else "is used up"
    message = f"{budget[0].upper()}{budget[1:]} {ended}: {spent}"
    if full.gone:
        message += f", {_amount(full.gone, unit)} more were held by a gateway that broke down"
    if some_left:
        message += f", and this request may need {_amount(full.need, unit)}"
    if full.renews < math.inf:
        message += f". It renews at {datetime.fromtimestamp(full.renews, UTC):%Y-%m-%d %H:%M} UTC."
    else:
        message += ". It does not renew: ask for a larger one."
    return Refusal(429, message, code="insufficient_quota", headers={"x-should-retry": "false"})


def _again(message: str, seconds: float) -> Refusal:
    told = {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(max(1, math.ceil(seconds * 1000)))}
    return Refusal(429, message, code="rate_limit_exceeded", headers=told)


def _whose(scope: str) -> str:
    what, _, name = scope.partition(":")
    return "this key" if what == "key" else f"the {what} `{name}`"


def _amount(number: float, unit: str) -> str:
    return f"{number:,.0f}" if unit else f"{number:,.6f}".rstrip("0").rstrip(".")


def _lasting(seconds: float) -> str:
    """As OpenAI's headers have it: 120ms, 8.64s, 1m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 2), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"


def rate_headers(scopes: Scopes | None) -> Headers:
    """x-ratelimit-*, of the limit that is nearest, as far as this gateway knows without asking."""
    if scopes is None:
        return []
    told: Headers = []
    for name, counters in ((b"requests", scopes.requests), (b"tokens", scopes.tokens)):
        if counters:
            nearest = counters[0] if len(counters) == 1 else min(counters, key=_remaining)
            remaining = max(0, int(_remaining(nearest)))
            reset = _lasting(nearest.window) if remaining < nearest.limit else "0s"
            told += (
                (b"x-ratelimit-limit-" + name, b"%d" % nearest.limit),
                (b"x-ratelimit-remaining-" + name, b"%d" % remaining),
                (b"x-ratelimit-reset-" + name, reset.encode()),
            )
    return told


def _remaining(counter: Counter) -> float:
    return counter.limit - counter.seen - counter.unacknowledged - counter.promised
