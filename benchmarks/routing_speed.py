"""What routing costs a request, for benchmarks/routing.py."""

import time
from typing import Any

import numpy as np
from routing_prompts import MODELS, simulated

from inference_service.routing.decision import Offer, Outcome, Route
from inference_service.routing.features import Extractor, Features
from inference_service.routing.learner import Learner

ROUNDS = 150
ROUND = 40
TOOLS = 8
Row = dict[str, Any]


def measure_speed() -> list[Row]:
    random = np.random.default_rng(1)
    extractor = Extractor()
    learner = Learner(Route("measured", cost_weight=1.0))
    offers = [Offer(model, cost=cost) for model, cost in list(MODELS.items())[:3]]
    prompts = [case.prompt for case in simulated(4000, 5)]
    rows = []
    for name, pool in (
        ("English, 200-300 characters", [text for text in prompts if text.isascii() and 200 <= len(text) <= 300]),
        ("German, 200-300 characters", [text for text in prompts if "ü" in text and 200 <= len(text) <= 300]),
        ("Chinese, 60-100 characters", [text for text in prompts if not text[:1].isascii() and 60 <= len(text) <= 100]),
        ("a million characters", ["Explain (x = 1) the lot; of all words. " * 25_641]),
    ):
        bodies = [{"model": "auto", "messages": [{"role": "user", "content": text}]} for text in pool]
        rows.append({"prompt": name, **_timed(bodies, extractor, learner, offers, random)})
        if len(rows) == 1:
            with_tools = [{**body, "tools": _tools(at)} for at, body in enumerate(bodies)]
            row = _timed(with_tools, extractor, learner, offers, random)
            rows.append({"prompt": f"the same with {TOOLS} tools", **row})
    return rows


def _tools(number: int) -> list[dict[str, Any]]:
    """A client sends the same ones with all its requests: here there are fifty clients."""
    words = "order parcel invoice weather triangle contract patient flight".split()  # noqa: SIM905
    return [
        {
            "type": "function",
            "function": {
                "name": f"find_{word}_{number % 50}",
                "description": f"Finds the {word} that belongs to a number, with all that is known of it. " * 3,
                "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}},
            },
        }
        for word in words[:TOOLS]
    ]


def _timed(
    bodies: list[dict[str, Any]], extractor: Extractor, learner: Learner, offers: list[Offer], random: Any
) -> Row:
    rounds: dict[str, list[float]] = {"features us": [], "decision us": [], "learning us": []}
    for first in range(0, ROUNDS * ROUND, ROUND):
        marks = [time.process_time()]
        seen: list[Features] = [extractor.extract(bodies[at % len(bodies)]) for at in range(first, first + ROUND)]
        marks.append(time.process_time())
        decisions = [learner.decide(features, offers, 0.0, random) for features in seen]
        marks.append(time.process_time())
        for features, decision in zip(seen, decisions, strict=True):
            assert decision is not None
            learner.learn(Outcome(decision.model, features, 0.0, quality=0.8, cost=0.001, latency=1.0))
        marks.append(time.process_time())
        for name, start, end in zip(rounds, marks, marks[1:], strict=False):
            rounds[name].append((end - start) / ROUND * 1e6)
    whole = np.array(rounds["features us"]) + np.array(rounds["decision us"])
    return {
        **{name: float(np.mean(values)) for name, values in rounds.items()},
        "features and decision us": float(whole.mean()),
        "median round us": float(np.median(whole)),
        "best round us": float(whole.min()),
    }
