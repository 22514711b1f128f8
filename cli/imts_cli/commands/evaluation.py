"""imts route evaluate"""

from typing import Annotated, Any

import typer

from imts_cli.commands.exits import UsageFault
from imts_cli.commands.figures import count, day_from
from imts_cli.commands.output import clean, table
from imts_cli.commands.platform import AsJson, InProject, ask_gateway, print_json
from imts_client.calls import routes as calls

POLICIES = ("learner", "cheapest", "uniform")


def evaluate(
    route: Annotated[str, typer.Option(help="Whose decisions are looked at.")] = "auto",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POLICY",
            help="fixed:MODEL, uniform, cheapest, or learner; may be repeated. learner, cheapest and uniform unless "
            "given.",
        ),
    ] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="DAY", help="2026-01-31, today, or 7d.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Up to and with this day.")] = None,
    project: InProject = None,
    as_json: AsJson = False,
) -> None:
    """Say what other policies would have been worth on the decisions that are kept.

    Every decision is kept with the chance that each model had, so that the answers that did come stand for those that
    another policy would have got.
    """
    policies = [_known(one) for one in policy or POLICIES]
    first = day_from("--from", since) if since else None
    last = day_from("--to", until) if until else None
    found = ask_gateway(calls.evaluate(route, policies, first, last, project))
    if as_json:
        print_json(found)
        return
    print(f"{count(found['decisions'])} decisions of route {clean(route)}")
    if found.get("note"):
        print(clean(found["note"]))
    if not found["decisions"]:
        return
    print()
    table(
        ("POLICY", "VALUE", "± ERROR", "SAMPLES"),
        (
            (
                one["policy"],
                f"{one['value']:.3f}" if one.get("value") is not None else "unknown",
                f"{one['standardError']:.3f}" if one.get("standardError") is not None else "",
                count(one.get("effectiveSamples")),
            )
            for one in _best_first(found["policies"])
        ),
        "No policy was valued.",
        numbers={"VALUE", "± ERROR", "SAMPLES"},
    )
    notes = [one for one in found["policies"] if one.get("note")]
    if notes:
        print()
    for one in notes:
        print(f"{clean(one['policy'])}: {clean(one['note'])}")


def _known(policy: str) -> str:
    kind, _, model = policy.partition(":")
    if policy in {"uniform", "cheapest", "learner"} or (kind == "fixed" and model):
        return policy
    raise UsageFault(f"--policy takes fixed:MODEL, uniform, cheapest or learner, not {policy!r}.")


def _best_first(policies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = [one for one in policies if one.get("value") is not None]
    return sorted(known, key=lambda one: -one["value"]) + [one for one in policies if one.get("value") is None]
