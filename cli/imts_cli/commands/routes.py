"""imts route"""

from typing import Annotated, Any

import typer

from imts_cli.commands import evaluation, explanation, routing
from imts_cli.commands.exits import UsageFault, command_group
from imts_cli.commands.job_request import check_numbers, read_file
from imts_cli.commands.output import age, pairs, table
from imts_cli.commands.periods import Period
from imts_cli.commands.platform import AsJson, InProject, fetch, fetch_list, print_json
from imts_cli.commands.route_request import Beliefs, Policy, amounts_from, beliefs_from, judge_from, settings_of
from imts_client.calls import routes as calls
from imts_client.errors import NotFound

app = command_group("Routes: names whose model the gateway chooses for each request, and what it has learned.")
app.command("explain")(explanation.explain)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What callers name as model.")]


@app.command("list")
def list_routes(
    project: Annotated[str | None, typer.Option(help="One project.")] = None, as_json: AsJson = False
) -> None:
    """List the routes. Every project has `auto`, over all of its models, though it is not listed."""
    found = fetch_list(calls.find(project), None)
    if as_json:
        print_json(found)
        return
    table(
        ("NAME", "PROJECT", "MODELS", "POLICY", "TARGET", "BUDGET", "CHANGED"),
        (
            (
                one["name"],
                one["project"],
                ", ".join(one["models"]) or "all",
                one["policy"],
                f"{one['qualityTarget']:g}" if one.get("qualityTarget") is not None else "",
                _budget(one),
                age(one["updatedAt"]),
            )
            for one in found["items"]
        ),
        "There are no routes but `auto`, which every project has.",
        numbers={"TARGET"},
    )


@app.command()
def show(name: Name, project: InProject = None, as_json: AsJson = False) -> None:
    """Show a route's settings."""
    found = fetch(calls.get(name, project))
    if as_json:
        print_json(found)
        return
    judge = found.get("judge") or {}
    pairs(
        (
            ("name", found["name"]),
            ("project", found["project"]),
            ("models", ", ".join(found["models"]) or "all that a caller may ask"),
            ("policy", found["policy"]),
            ("quality target", f"{found['qualityTarget']:g}" if found.get("qualityTarget") is not None else None),
            ("cost weight", f"{found['costWeight']:g}" if found["costWeight"] else None),
            ("latency weight", f"{found['latencyWeight']:g}" if found["latencyWeight"] else None),
            ("budget", _budget(found)),
            ("judge", f"{judge['model']}, at most {judge['timeoutMs']} ms" if judge else None),
            ("made", age(found["createdAt"])),
            ("changed", age(found["updatedAt"])),
        )
    )
    if found["beliefs"]:
        print()
        table(
            ("BELIEF IN", "LANGUAGE", "DOMAIN", "QUALITY", "STRENGTH"),
            (
                (
                    one["model"],
                    one.get("language") or "any",
                    one.get("domain") or "any",
                    f"{one['quality']:g}",
                    f"{one['strength']:g}",
                )
                for one in found["beliefs"]
            ),
            "",
            numbers={"QUALITY", "STRENGTH"},
        )


@app.command("set")
def set_route(
    name: Name,
    model: Annotated[
        list[str] | None, typer.Option(help="Among which it chooses; may be repeated; replaces those that there were.")
    ] = None,
    all_models: Annotated[bool, typer.Option("--all-models", help="Among all that a caller may ask.")] = False,
    policy: Annotated[Policy | None, typer.Option(help="How it chooses.")] = None,
    quality_target: Annotated[
        str | None, typer.Option(metavar="0…1|none", help="The cheapest model that is expected to reach it.")
    ] = None,
    cost_weight: Annotated[
        str | None, typer.Option(metavar="N", help="How much quality one unit of money for a request is worth.")
    ] = None,
    latency_weight: Annotated[str | None, typer.Option(metavar="N", help="How much quality a second is worth.")] = None,
    budget: Annotated[str | None, typer.Option(metavar="N|none", help="Money in a period.")] = None,
    budget_period: Annotated[Period | None, typer.Option(help="A calendar period, in UTC.")] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL|none", help="Asked where the statistics leave it open.")
    ] = None,
    judge_timeout: Annotated[int | None, typer.Option(metavar="MS", help="How long it may take.")] = None,
    belief: Beliefs = None,
    file: Annotated[
        str | None, typer.Option("-f", "--file", help="The settings as YAML or JSON, instead of those there were.")
    ] = None,
    project: InProject = None,
    as_json: AsJson = False,
) -> None:
    """Make a route, or change it: what is not named stays, or gets its default where there is none yet.

    For example: imts route set support --model qwen3 --model gpt-5-mini --quality-target 0.8
    """
    written = _from(file, name) if file else None
    project = project or (written or {}).pop("project", None)
    known = _known(name, project)
    fields = settings_of(known or {}) if written is None else written
    if model and all_models:
        raise UsageFault("Name one of --model and --all-models.")
    given: dict[str, Any] = {
        "models": [] if all_models else model,
        "policy": policy.value if policy else None,
        "budgetPeriod": budget_period.value if budget_period else None,
        "beliefs": beliefs_from(belief),
    }
    fields |= {field: value for field, value in given.items() if value is not None}
    fields |= judge_from(judge, judge_timeout, fields)
    fields |= amounts_from(
        {
            "qualityTarget": ("--quality-target", quality_target),
            "costWeight": ("--cost-weight", cost_weight),
            "latencyWeight": ("--latency-weight", latency_weight),
            "budget": ("--budget", budget),
        }
    )
    if known is None:
        place = {"project": project} if project else {}
        route = fetch(calls.create_fields({"name": name, **place, **fields}))
    else:
        route = fetch(calls.put_fields(name, fields, project))
    if as_json:
        print_json(route)
        return
    among = ", ".join(route["models"]) or "all models"
    print(f"Route {route['name']} is {'made' if known is None else 'changed'}: {route['policy']} among {among}.")


@app.command()
def remove(name: Name, project: InProject = None, as_json: AsJson = False) -> None:
    """Remove a route; `auto` is the built-in one again."""
    answer = fetch(calls.delete(name, project))
    if as_json:
        print_json(answer)
    else:
        print(f"Route {name} is removed.")


app.command("stats")(routing.stats)
app.command("decisions")(routing.decisions)
app.command("feedback")(routing.feedback)
app.command("evaluate")(evaluation.evaluate)


def _known(name: str, project: str | None) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = fetch(calls.get(name, project))
    except NotFound:
        return None
    return found


def _from(file: str, name: str) -> dict[str, Any]:
    fields = read_file(file)
    check_numbers(fields)
    if fields.pop("name", name) != name:
        raise UsageFault(f"{file} describes a route of another name than {name!r}.")
    return fields


def _budget(route: dict[str, Any]) -> str:
    if route.get("budget") is None:
        return ""
    period = "in all" if route["budgetPeriod"] == "total" else f"a {route['budgetPeriod']}"
    return f"{route['budget']:,g} {period}"
