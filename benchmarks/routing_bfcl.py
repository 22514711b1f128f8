"""The measures of benchmarks/routing.py on what deployed models made of BFCL's prompts.

Requests are drawn from the recorded prompts with repetition, as there are fewer than requests. What is learnt is
measured on a third of the prompts that were kept apart. What the router sees of a prompt is the request's own body."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bfcl import entries
from routing_measures import PHASES, Row, World, arriving, learnt, leaving, overshoots, spending, summary, times
from routing_neighbours import neighbours_quality
from routing_prompts import Case

from inference_service.routing.features import Extractor, Features

PRICES = {"declining": 0.02, "calling": 0.05, "choosy": 0.1, "parallel": 0.2}
"""Of a million tokens, as if the models were of 0.1, 0.3, 1 and 3 billion parameters; one with another name costs the
most. In truth all of them are adapters of one small model, and cost the same."""
MOST_TOKENS = 96
"""Of an answer, when the table was recorded: what a request can cost at worst."""
KEPT_APART = 1 / 3
STAGES = (500, 1000, 2000)
KEPT_RIGHT = {"all answers wrong": 0.0, "half of the right ones wrong": 0.5}


@dataclass(frozen=True)
class Table:
    cases: list[Case]
    seen: list[Features]
    worst: list[list[float]]
    kinds: dict[int, dict[str, float]]
    """Of the cases of each category (by the case's identity): the share that each model has right."""


def measure_bfcl(wheel: Path, table: Path, seeds: Iterable[int]) -> dict[str, list[Row]]:
    read = _read(wheel, table)
    seeds = list(seeds)
    return {
        "models": _models(wheel, table),
        "learning": _learning(read, seeds),
        "budget": _budget(read, seeds),
        "regression": _regression(read, seeds),
    }


def _read(wheel: Path, table: Path) -> Table:
    extractor = Extractor()
    known = {entry.id: entry for entry in entries(wheel)}
    cases, seen, worst, categories = [], [], [], []
    for line in table.read_text().splitlines():
        row = json.loads(line)
        entry = known[row["id"]]
        models = row["outcomes"]
        right = {model: float(outcome[0]) for model, outcome in models.items()}
        cost = {model: _price(model) * (outcome[2] + outcome[3]) for model, outcome in models.items()}
        cases.append(Case(row["id"], right, right, cost, {model: outcome[1] for model, outcome in models.items()}))
        seen.append(extractor.extract(entry.body()))
        worst.append([_price(model) * (outcome[2] + MOST_TOKENS) for model, outcome in models.items()])
        categories.append(entry.category)
    by_category = defaultdict(list)
    for case, category in zip(cases, categories, strict=True):
        by_category[category].append(case)
    kinds = {
        id(case): {model: float(np.mean([each.truth[model] for each in alike])) for model in case.truth}
        for alike in by_category.values()
        for case in alike
    }
    return Table(cases, seen, worst, kinds)


def _price(model: str) -> float:
    return PRICES.get(model, max(PRICES.values())) / 1e6


def _models(wheel: Path, table: Path) -> list[Row]:
    """What share each model has right, by category."""
    categories = {entry.id: entry.category for entry in entries(wheel)}
    found: dict[str, list[dict[str, list[float]]]] = defaultdict(list)
    for line in table.read_text().splitlines():
        row = json.loads(line)
        found[categories[row["id"]]].append(row["outcomes"])
        found["all"].append(row["outcomes"])
    return [
        {
            "category": category,
            "prompts": len(rows),
            **{model: float(np.mean([row[model][0] for row in rows])) for model in rows[0]},
            "any": float(np.mean([max(outcome[0] for outcome in row.values()) for row in rows])),
        }
        for category, rows in found.items()
    ]


def _learning(table: Table, seeds: list[int]) -> list[Row]:
    rows = []
    for requests in STAGES:
        worlds = [_world(table, requests, seed) for seed in seeds]
        for policy, share in (("thompson", 1.0), ("thompson", 0.2), ("linucb", 1.0)):
            results = [learnt(world, policy, share) for world in worlds]
            best_by_kind = float(np.mean([_by_kind(table, world) for world in worlds]))
            rows.append({"requests": requests, **summary(policy, share, results), "best by category": best_by_kind})
    return rows


def _world(table: Table, requests: int, seed: int) -> World:
    """The neighbours are all prompts that were asked, each once: one asked twice would be its own neighbour."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(table.cases))
    apart = int(len(order) * KEPT_APART)
    later, pool = order[:apart].tolist(), order[apart:]
    drawn = random.choice(pool, requests).tolist()
    known = list(dict.fromkeys(drawn))
    models = list(table.cases[0].truth)
    truth = np.array([[table.cases[at].truth[model] for model in models] for at in (*known, *later)])
    held = truth[len(known) :]
    others = {
        "neighbours": neighbours_quality([table.seen[at] for at in (*known, *later)], truth, truth, len(known)),
        "best": float(held.max(axis=1).mean()),
        "best fixed": float(held[:, truth[: len(known)].mean(axis=0).argmax()].mean()),
        "uniform": float(held.mean()),
    }
    asked = [*drawn, *later]
    return World(seed, [table.cases[at] for at in asked], [table.seen[at] for at in asked], requests, others)


def _by_kind(table: Table, world: World) -> float:
    """What one would reach who knew the category of each prompt, and which model does best in it."""
    found = []
    for case in world.cases[world.start :]:
        worths = table.kinds[id(case)]
        found.append(case.truth[max(worths, key=worths.__getitem__)])
    return float(np.mean(found))


def _budget(table: Table, seeds: list[int], requests: int = 3000) -> list[Row]:
    """A budget for 30% of what the dearest model would cost for all: about half of what is spent without one."""
    rows = []
    for arrivals in ("even", "bursts"):
        for known in (True, False):
            runs = []
            for seed in seeds:
                random = np.random.default_rng(seed)
                drawn = random.integers(len(table.cases), size=requests).tolist()
                cases = [table.cases[at] for at in drawn]
                price = np.array([list(case.cost.values()) for case in cases])
                worst = np.array([table.worst[at] for at in drawn]) if known else None
                amount = 0.3 * float(price.sum(axis=0).max())
                at = arriving(requests, arrivals, random)
                runs.append(spending(cases, [table.seen[each] for each in drawn], price, worst, amount, at, random))
            rows.append({"arrivals": arrivals, "worst cost known": known, **overshoots(runs)})
    return rows


def _regression(table: Table, seeds: list[int]) -> list[Row]:
    return [
        {"victim": name, "feedback": share, **times([_regress(table, kept, share, seed) for seed in seeds])}
        for name, kept in KEPT_RIGHT.items()
        for share in (1.0, 0.2)
    ]


def _regress(table: Table, kept: float, share: float, seed: int) -> tuple[float, float]:
    """Which model is the best for a request is what is best in its category: single prompts tell no more."""
    random = np.random.default_rng(seed + 77)
    drawn: Sequence[int] = random.integers(len(table.cases), size=sum(PHASES)).tolist()

    def truth(case: Case, victim: str) -> dict[str, float]:
        return {model: good * (kept if model == victim else 1.0) for model, good in table.kinds[id(case)].items()}

    def answer(case: Case, model: str, victim: str) -> float:
        return case.quality[model] * float(model != victim or random.random() < kept)

    return leaving([table.cases[at] for at in drawn], [table.seen[at] for at in drawn], truth, answer, share, random)
