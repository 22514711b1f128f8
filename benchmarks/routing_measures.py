"""The measures of benchmarks/routing.py."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from routing_neighbours import neighbours_quality
from routing_prompts import MODELS, Case, simulated

from inference_service.routing.decision import Offer, Outcome, Route
from inference_service.routing.features import Extractor, Features
from inference_service.routing.learner import Learner
from inference_service.routing.pacing import Budget

LEARNING = 2000
FOLLOWING = 1000
PERIOD = 3600.0
PHASES = (2000, 1500, 3000)
"""Requests before a model gets worse, while it is, and after."""
Numbers = npt.NDArray[np.floating[Any]]
Row = dict[str, Any]


@dataclass(frozen=True)
class World:
    """Requests with their features, and what the choices are measured against."""

    seed: int
    cases: Sequence[Case]
    seen: list[Features]
    start: int
    others: dict[str, float]


def measure_learning(seeds: Iterable[int]) -> list[Row]:
    rows = []
    for graded in (False, True):
        worlds = [_world(simulated(LEARNING + FOLLOWING, seed, graded), seed) for seed in seeds]
        for policy in ("thompson", "linucb"):
            for share in (1.0, 0.2):
                results = [learnt(world, policy, share) for world in worlds]
                rows.append({"outcomes": "ratings" if graded else "right or wrong", **summary(policy, share, results)})
    return rows


def measure_table(cases: list[Case], seeds: Iterable[int]) -> list[Row]:
    """The same on recorded outcomes, in a new order for each seed."""
    worlds = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(cases))[: LEARNING + FOLLOWING]
        worlds.append(_world([cases[at] for at in order], seed))
    return [summary("thompson", share, [learnt(world, "thompson", share) for world in worlds]) for share in (1.0, 0.2)]


def summary(policy: str, share: float, results: list[dict[str, float]]) -> Row:
    def mean(name: str) -> float:
        return float(np.mean([result[name] for result in results]))

    ratios = [result["learner"] / result["neighbours"] for result in results]
    gained = [
        (result["learner"] - result["uniform"]) / (result["neighbours"] - result["uniform"]) for result in results
    ]
    return {
        "policy": policy,
        "feedback": share,
        "share of kNN": float(np.mean(ratios)),
        "worst seed": min(ratios),
        "share of kNN's gain over chance": float(np.mean(gained)),
        **{name: mean(name) for name in ("learner", "neighbours", "best", "best fixed", "uniform")},
    }


def _world(cases: Sequence[Case], seed: int) -> World:
    extractor = Extractor()
    seen = [extractor.of_text(case.prompt) for case in cases]
    start = len(cases) * LEARNING // (LEARNING + FOLLOWING)
    models = list(cases[0].truth)
    truth = np.array([[case.truth[model] for model in models] for case in cases])
    outcomes = np.array([[case.quality[model] for model in models] for case in cases])
    others = {
        "neighbours": neighbours_quality(seen, outcomes, truth, start),
        "best": float(truth[start:].max(axis=1).mean()),
        "best fixed": float(truth[start:].mean(axis=0).max()),
        "uniform": float(truth[start:].mean()),
    }
    return World(seed, cases, seen, start, others)


def learnt(world: World, policy: str, share: float) -> dict[str, float]:
    random = np.random.default_rng(world.seed + 1000)
    offers = [Offer(model) for model in world.cases[0].truth]
    learner = Learner(Route("measured", policy=policy))
    got = []
    for at, (case, features) in enumerate(zip(world.cases, world.seen, strict=True)):
        decision = learner.decide(features, offers, float(at), random)
        assert decision is not None
        if at >= world.start:
            got.append(case.truth[decision.model])
        if random.random() < share:
            learner.learn(Outcome(decision.model, features, float(at), quality=case.quality[decision.model]))
    return {"learner": float(np.mean(got)), **world.others}


def measure_budget(seeds: Iterable[int]) -> list[Row]:
    return [
        {"costs": costs, "arrivals": arrivals, "worst cost known": known, **_overshoots(seeds, costs, arrivals, known)}
        for costs in ("usual", "heavy-tailed")
        for arrivals in ("even", "bursts")
        for known in (True, False)
    ]


def _overshoots(seeds: Iterable[int], costs: str, arrivals: str, known: bool) -> Row:
    return overshoots([_spend(seed, costs, arrivals, known) for seed in seeds])


def overshoots(runs: list[dict[str, float]]) -> Row:
    over = [max(0.0, run["spent"] - 1.0) for run in runs]
    return {
        "worst overshoot": max(over),
        "mean spent": float(np.mean([run["spent"] for run in runs])),
        "refused": float(np.mean([run["refused"] for run in runs])),
        "spent at half time": float(np.mean([run["half"] for run in runs])),
        "quality": float(np.mean([run["quality"] for run in runs])),
    }


def _spend(seed: int, costs: str, arrivals: str, known: bool) -> dict[str, float]:
    """A budget for about 60% of what the best models would cost."""
    random = np.random.default_rng(seed)
    cases = simulated(3000, seed)
    extractor = Extractor()
    tail = random.pareto(1.6, (len(cases), len(MODELS))) + 0.2 if costs == "heavy-tailed" else None
    price = np.array([[case.cost[model] for model in MODELS] for case in cases])
    price = price if tail is None else np.array(list(MODELS.values())) * np.minimum(tail, 60.0)
    amount = 0.6 * float(price[:, 3].sum())
    at = arriving(len(cases), arrivals, random)
    seen = [extractor.of_text(case.prompt) for case in cases]
    return spending(cases, seen, price, price * 1.5 if known else None, amount, at, random)


def arriving(count: int, arrivals: str, random: np.random.Generator) -> Numbers:
    at = np.sort(random.random(count)) * PERIOD
    if arrivals == "bursts":
        at = np.sort((np.floor(random.random(count) * 6) + random.random(count) ** 8) * PERIOD / 6)
    return at


def spending(
    cases: Sequence[Case],
    seen: Sequence[Features],
    price: Numbers,
    worst: Numbers | None,
    amount: float,
    at: Numbers,
    random: np.random.Generator,
    flying: int = 16,
) -> dict[str, float]:
    """What a hard budget for `PERIOD` seconds is spent on; sixteen requests are always under way."""
    models = list(cases[0].truth)
    learner = Learner(Route("measured", budget=Budget(amount, 0.0, PERIOD)))
    under_way: deque[Outcome] = deque()
    spent = half = refused = 0.0
    quality = []
    for number, (case, features) in enumerate(zip(cases, seen, strict=True)):
        now = float(at[number])
        while len(under_way) >= flying:
            learner.learn(under_way.popleft())
        offers = [
            Offer(model, worst_cost=None if worst is None else float(worst[number, place]))
            for place, model in enumerate(models)
        ]
        decision = learner.decide(features, offers, now, random)
        if decision is None:
            refused += 1
            continue
        cost = float(price[number, models.index(decision.model)])
        spent += cost
        half += cost if now < PERIOD / 2 else 0.0
        quality.append(case.truth[decision.model])
        under_way.append(
            Outcome(decision.model, features, now, quality=case.quality[decision.model], cost=cost, held=decision.held)
        )
    return {
        "spent": spent / amount,
        "half": half / amount,
        "refused": refused / len(cases),
        "quality": float(np.mean(quality)),
    }


def measure_regression(seeds: Iterable[int]) -> list[Row]:
    return [
        {"drop": drop, "feedback": share, **times([_regress(seed, drop, share) for seed in seeds])}
        for drop in (0.5, 0.3)
        for share in (1.0, 0.2)
    ]


def times(runs: list[tuple[float, float]]) -> Row:
    left = [run[0] for run in runs]
    back = [run[1] for run in runs]
    return {
        "left after (median)": float(np.median(left)),
        "left after (p95)": float(np.percentile(left, 95)),
        "left after (worst)": max(left),
        "back after (median)": float(np.median(back)),
        "back after (worst)": max(back),
    }


def _regress(seed: int, drop: float, share: float) -> tuple[float, float]:
    random = np.random.default_rng(seed + 77)
    cases = simulated(sum(PHASES), seed)
    extractor = Extractor()

    def truth(case: Case, victim: str) -> dict[str, float]:
        return {model: max(good - drop * (model == victim), 0.02) for model, good in case.truth.items()}

    def answer(case: Case, model: str, victim: str) -> float:
        return float(random.random() < truth(case, victim)[model])

    return leaving(cases, [extractor.of_text(case.prompt) for case in cases], truth, answer, share, random)


def leaving(
    cases: Sequence[Case],
    seen: Sequence[Features],
    truth: Callable[[Case, str], dict[str, float]],
    answer: Callable[[Case, str, str], float],
    share: float,
    random: np.random.Generator,
    window: int = 50,
) -> tuple[float, float]:
    """The model with most traffic gets worse after 2,000 requests and recovers 1,500 later; `truth` and `answer` are
    told which model is worse ("": none).

    Left: the first request from which on it is asked for fewer than 10% of `window` requests for which it is now not
    the best. Back: the first from which on it is asked for more than half of those for which it is again the best."""
    falls, recovers = PHASES[0], PHASES[0] + PHASES[1]
    offers = [Offer(model) for model in cases[0].truth]
    learner = Learner(Route("measured"))
    asked: list[str] = []
    victim = ""
    wrong: deque[tuple[int, bool]] = deque(maxlen=window)
    right: deque[tuple[int, bool]] = deque(maxlen=window)
    left, back = float(PHASES[1]), float(PHASES[2])
    for at, (case, features) in enumerate(zip(cases, seen, strict=True)):
        if at == falls:
            recent = asked[-500:]
            victim = max(case.truth, key=recent.count)
        worse = victim if falls <= at < recovers else ""
        decision = learner.decide(features, offers, float(at), random)
        assert decision is not None
        asked.append(decision.model)
        worths = truth(case, worse)
        best = max(worths, key=worths.__getitem__)
        if worse and best != victim and left == PHASES[1]:
            wrong.append((at - falls, decision.model == victim))
            if len(wrong) == window and sum(hit for _, hit in wrong) < window * 0.1:
                left = float(wrong[0][0])
        if at >= recovers and best == victim and back == PHASES[2]:
            right.append((at - recovers, decision.model == victim))
            if len(right) == window and sum(hit for _, hit in right) > window * 0.5:
                back = float(right[0][0])
        if random.random() < share:
            quality = answer(case, decision.model, worse)
            learner.learn(Outcome(decision.model, features, float(at), quality=quality))
    return left, back
