"""imts route stats, decisions and feedback"""

from typing import Annotated, Any

import typer

from imts_cli.commands.exits import UsageFault
from imts_cli.commands.explanation import show_decision
from imts_cli.commands.figures import count, day_from, decimals, money, seconds
from imts_cli.commands.output import age, clean, table
from imts_cli.commands.platform import All, AsJson, Limit, ask_gateway, fetch, fetch_list, print_json
from imts_client.calls import routes as calls


def stats(
    route: Annotated[str | None, typer.Option(help="One route.")] = None,
    project: Annotated[str | None, typer.Option(help="One project.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the routes know of their models, by language and domain."""
    found = ask_gateway(calls.stats(route, project))
    if as_json:
        print_json(found)
        return
    if not found["routes"]:
        print("No route has decided anything yet.")
    for place, one in enumerate(found["routes"]):
        if place:
            print()
        print(f"Route {clean(one['name'])} of project {clean(one['project'])}")
        _stats_table(one["models"])
        for part in ("languages", "domains"):
            if one.get(part):
                print()
                _stats_table(one[part])


def decisions(
    decision: Annotated[str | None, typer.Argument(metavar="[DECISION]", help="One of them, with all it knew.")] = None,
    route: Annotated[str | None, typer.Option(help="One route.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those that chose it.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="DAY", help="2026-01-31, today, or 7d.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Up to and with this day.")] = None,
    project: Annotated[str | None, typer.Option(help="One project.")] = None,
    limit: Limit = 20,
    everything: All = False,
    as_json: AsJson = False,
) -> None:
    """List what was decided, newest first, or explain one decision."""
    if decision:
        one = fetch(calls.decision(decision))
        if as_json:
            print_json(one)
        else:
            show_decision(one)
        return
    first = day_from("--from", since) if since else None
    last = day_from("--to", until) if until else None
    found = fetch_list(calls.decisions(route, model, first, last, project), None if everything else limit)
    if as_json:
        print_json(found)
        return
    table(
        ("ID", "ROUTE", "MODEL", "LANGUAGE", "DOMAIN", "RESULT", "WHEN"),
        (
            (
                one["decisionId"],
                one["route"],
                one["model"],
                one["features"].get("language"),
                one["features"].get("domain"),
                _result(one.get("result")),
                age(one["at"]),
            )
            for one in found["items"]
        ),
        "There are no such decisions.",
    )


def feedback(
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="The id that came with the answer.")],
    rating: Annotated[int | None, typer.Option(min=1, max=5, help="5 is best.")] = None,
    comment: Annotated[str | None, typer.Option(help="In your words.")] = None,
    label: Annotated[
        str | None, typer.Option(help="What the request really was: a domain, or simple, medium, hard.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how good an answer was; the route learns from it at once."""
    if rating is None and comment is None and label is None:
        raise UsageFault("Say something: --rating 1 to 5, --comment or --label.")
    answer = ask_gateway(calls.feedback(decision, rating, comment, label))
    if as_json:
        print_json(answer)
    else:
        print(f"Feedback on decision {clean(answer['decisionId'])} is taken.")


def _stats_table(models: list[dict[str, Any]]) -> None:
    places = decimals(one.get("cost") for one in models)
    told = [name for name in ("language", "domain") if any(one.get(name) for one in models)]
    fails = ["FAILED"] if any(one.get("failures") for one in models) else []
    rows = sorted(models, key=lambda one: (one["model"], -one["requests"]))
    table(
        ["MODEL", *map(str.upper, told), "REQUESTS", *fails, "QUALITY", "RATED", "LATENCY", "COST"],
        (
            (
                one["model"],
                *(one.get(name) for name in told),
                count(one["requests"]),
                *(count(one.get("failures")) for _ in fails),
                f"{one['quality']:.2f}" if one.get("quality") is not None else "",
                count(one.get("qualityCount")),
                seconds(one.get("latencySeconds", one.get("latency"))),
                money(one.get("cost"), places),
            )
            for one in rows
        ),
        "It has decided nothing yet.",
        numbers={"REQUESTS", "FAILED", "QUALITY", "RATED", "LATENCY", "COST"},
    )


def _result(result: dict[str, Any] | None) -> str:
    if result is None:
        return ""
    return "failed" if result.get("failed") else f"ok {seconds(result.get('latencySeconds'))}".rstrip()
