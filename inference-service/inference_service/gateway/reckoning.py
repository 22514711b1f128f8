"""`python -m inference_service.gateway.reckoning`: values policies in a process of its own, which reads what was
decided by itself. What it is asked comes as JSON on its standard input, what it found goes as JSON to its standard
output."""

import asyncio
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import orjson
from pydantic import BaseModel, SecretStr

from imts_shared.contracts.routes import DecisionLine, DecisionPage, RouteSettings
from inference_service.gateway.control_plane import ControlPlane, Declined, Unanswered
from inference_service.gateway.learners import features_of, made_of
from inference_service.routing.evaluating import Logged, Policy, Value, cheapest, evaluate, fixed, replayed, uniform

FIXED = "fixed:"
KNOWN = ("uniform", "cheapest", "learner")
MOST_POLICIES = 20
PAGE = 500
NICENESS = 10


class Task(BaseModel):
    """`headers`: the caller's own key. `query`: which decisions. `most`: how many, the newest. `policies`: none means
    all that are known, and each model."""

    url: str
    headers: dict[str, str]
    query: dict[str, str]
    policies: list[str]
    settings: RouteSettings
    most: int
    seconds: float


class Found(BaseModel):
    """`declined`, `away`: why nothing was found."""

    decisions: int = 0
    cut: bool = False
    policies: list[dict[str, Any]] = []
    declined: str | None = None
    away: str | None = None


async def found(task: Task) -> Found:
    async with aiohttp.ClientSession() as session:
        control_plane = ControlPlane(session, task.url, SecretStr(""))
        try:
            log, decisions, cut = await _decided(control_plane, task)
        except Declined as error:
            return Found(declined=str(error))
        except Unanswered as error:
            return Found(away=str(error))
    names = task.policies or [*KNOWN, *sorted({f"{FIXED}{one.model}" for one in log})][:MOST_POLICIES]
    return Found(decisions=decisions, cut=cut, policies=reckoned(log, names, task.settings))


async def _decided(control_plane: ControlPlane, task: Task) -> tuple[list[Logged], int, bool]:
    """What is needed of them alone is kept. Also: how many there were, and whether there are more."""
    query = {**task.query, "limit": str(min(PAGE, task.most))}
    log: list[Logged] = []
    seen = 0
    while True:
        page = await control_plane.as_caller(DecisionPage, "/api/routing/decisions", query, task.headers)
        lines = page.items[: task.most - seen]
        seen += len(lines)
        log += (one for line in lines if (one := _logged(line)) is not None)
        if page.next_cursor is None or seen >= task.most:
            return log, seen, page.next_cursor is not None or len(lines) < len(page.items)
        query["cursor"] = page.next_cursor


def reckoned(log: Sequence[Logged], names: Sequence[str], settings: RouteSettings) -> list[Mapping[str, Any]]:
    return [_told(name, evaluate(log, _policy(name, settings))) for name in names]


def _policy(name: str, settings: RouteSettings) -> Policy:
    if name.startswith(FIXED):
        return fixed(name.removeprefix(FIXED))
    if name == "learner":
        return replayed(made_of("replayed", settings, None))
    return uniform if name == "uniform" else cheapest


def _logged(line: DecisionLine) -> Logged | None:
    """The newest rating counts; without one a failure is of no quality, and of all else nothing is known."""
    features = features_of(line.features, line.context)
    if features is None:
        return None
    ratings = [one.quality for one in line.feedback if one.quality is not None]
    result = line.result or next((one.result for one in line.feedback if one.result is not None), None)
    failed = result is not None and result.failed
    return Logged(
        line.model,
        features,
        {one.model: one.propensity for one in line.candidates},
        line.at.timestamp(),
        ratings[-1] if ratings else 0.0 if failed else None,
        result.cost if result else None,
        result.latency_seconds if result else None,
        {one.model: one.cost for one in line.candidates},
    )


def _told(name: str, found: Value) -> dict[str, Any]:
    best = found.doubly_robust or found.snips or found.ips
    error = best.error if best and math.isfinite(best.error) else None
    return {
        "policy": name,
        "value": best.value if best else None,
        "standardError": error,
        "effectiveSamples": found.effective,
        "note": found.why_not,
        "logged": found.logged.value if found.logged else None,
        "ips": found.ips.value if found.ips else None,
        "snips": found.snips.value if found.snips else None,
        "records": found.records,
    }


def main() -> None:
    """Requests are answered first; and it ends by itself where nobody is left to end it."""
    os.nice(NICENESS)
    task = Task.model_validate_json(sys.stdin.buffer.read())
    signal.alarm(math.ceil(task.seconds) + 1)
    sys.stdout.buffer.write(orjson.dumps(asyncio.run(found(task)).model_dump()))


if __name__ == "__main__":
    main()
