"""What `imts route set` sends: what there is, over it a file, over it the options."""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

import typer

from imts_cli.commands.exits import UsageFault
from imts_cli.commands.figures import amount
from imts_cli.commands.pieces import Fields, number, split

OWN = ("models", "policy", "costWeight", "latencyWeight", "qualityTarget", "budget", "budgetPeriod", "judge", "beliefs")
"""The settings of a route, without what the platform adds to them."""

BELIEF: Fields = {
    "quality": ("quality", number),
    "language": ("language", str),
    "domain": ("domain", str),
    "strength": ("strength", number),
}
Beliefs = Annotated[
    list[str] | None,
    typer.Option(
        "--belief",
        metavar="MODEL,quality=0.8[,…]",
        help="What is thought of a model before anything is known; language=, domain= and strength= (as many answers "
        "it weighs) may follow. May be repeated; replaces those that there were.",
    ),
]


class Policy(Enum):
    thompson = "thompson"
    linucb = "linucb"


def settings_of(known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: known[name] for name in OWN if name in known}


def beliefs_from(given: list[str] | None) -> list[dict[str, Any]] | None:
    if not given:
        return None
    beliefs = []
    for text in given:
        model, fields = split("--belief", text, BELIEF)
        if not model or "quality" not in fields:
            raise UsageFault(f"--belief {text!r} says no quality: write --belief qwen3,quality=0.8,language=zh")
        beliefs.append({"model": model} | fields)
    return beliefs


def judge_from(model: str | None, timeout: int | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """The field, where one of its options is given."""
    if model is None and timeout is None:
        return {}
    if model == "none":
        return {"judge": None}
    judge = dict(known.get("judge") or {})
    if model is not None:
        judge["model"] = model
    if timeout is not None:
        judge["timeoutMs"] = timeout
    if "model" not in judge:
        raise UsageFault("--judge-timeout needs a judge: name its model by --judge.")
    return {"judge": judge}


def amounts_from(given: Mapping[str, tuple[str, str | None]]) -> dict[str, float | None]:
    """By field: the option and its text."""
    return {field: amount(option, text) for field, (option, text) in given.items() if text is not None}
