"""imts route explain"""

import sys
from typing import Annotated, Any

import typer

from imts_cli.commands.exits import UsageFault
from imts_cli.commands.figures import decimals, money, seconds
from imts_cli.commands.output import clean, pairs, table
from imts_cli.commands.platform import AsJson, InProject, ask_gateway, print_json
from imts_client.calls import routes as calls

SAID = ("language", "domain", "complexity", "lengthTokens", "tools", "code", "confidence")
"""In this order; whatever else the gateway noticed comes after."""
NAMES = {"lengthTokens": "length"}
CLASSES = {"complexity": "complexityClass", "lengthTokens": "lengthClass"}
"""Told beside the number that they are a class of."""


def explain(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What would be asked; - reads stdin.")],
    route: Annotated[str | None, typer.Option(help="auto unless given.")] = None,
    project: InProject = None,
    as_json: AsJson = False,
) -> None:
    """Say which model a route would choose for a question, among which, and why."""
    text = sys.stdin.read() if question == "-" else question
    if not text.strip():
        raise UsageFault("The question is empty.")
    decision = ask_gateway(calls.analyze(text, route=route, project=project))
    if as_json:
        print_json(decision)
        return
    show_decision(decision)


def show_decision(decision: dict[str, Any]) -> None:
    features = decision["features"]
    pairs(_feature_pairs(features))
    print()
    candidates_table(decision)
    print()
    told = [
        ("choice", decision["model"]),
        ("reason", decision["reason"]),
        ("route", f"{decision['route']} (policy {decision['policy']})"),
        ("decision", decision["decisionId"]),
    ]
    told += [("feedback", _said(one)) for one in decision.get("feedback") or ()]
    pairs(told)


def candidates_table(decision: dict[str, Any]) -> None:
    candidates = sorted(decision["candidates"], key=lambda one: one["score"], reverse=True)
    places = decimals(one.get("cost") for one in candidates)
    table(
        ("", "MODEL", "SCORE", "PROPENSITY", "QUALITY", "COST", "LATENCY"),
        (
            (
                "*" if one["model"] == decision["model"] else "",
                one["model"],
                f"{one['score']:.3f}",
                f"{one['propensity']:.3f}",
                f"{one['quality']:.2f}" if one.get("quality") is not None else "",
                money(one.get("cost"), places),
                seconds(one.get("latencySeconds")),
            )
            for one in candidates
        ),
        "There was no model to choose from.",
        numbers={"SCORE", "PROPENSITY", "QUALITY", "COST", "LATENCY"},
    )


def _said(feedback: dict[str, Any]) -> str:
    rating = f"{feedback['rating']} of 5" if feedback.get("rating") is not None else feedback.get("signal", "")
    return ", ".join(part for part in (rating, feedback.get("label"), feedback.get("comment")) if part)


def _feature_pairs(features: dict[str, Any]) -> list[tuple[str, str]]:
    told = {*SAID, *CLASSES.values()}
    others = [name for name, value in features.items() if name not in told and not isinstance(value, dict | list)]
    return [(NAMES.get(name, name), _feature(name, features)) for name in (*SAID, *others)]


def _feature(name: str, features: dict[str, Any]) -> str:
    value = features.get(name)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = clean(value)
    if name == "lengthTokens" and isinstance(value, int | float):
        text = f"about {value:,.0f} tokens"
    elif isinstance(value, float):
        text = f"{value:.2f}"
    kind = features.get(CLASSES.get(name, ""))
    return f"{text} ({clean(kind)})" if kind else text
