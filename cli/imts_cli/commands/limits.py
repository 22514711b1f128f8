"""imts limits"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import typer

from imts_cli.commands.exits import UsageFault, command_group
from imts_cli.commands.figures import amount, count, decimals, money, share, whole_number
from imts_cli.commands.output import pairs
from imts_cli.commands.periods import Period
from imts_cli.commands.platform import AsJson, fetch, print_json
from imts_client.calls import access
from imts_client.calls import limits as calls

app = command_group("Limits: what a key or a project may ask of models, and what is spent of it.")

OfKey = Annotated[str | None, typer.Option("--key", metavar="ID", help="A key, by its id.")]
OfProject = Annotated[str | None, typer.Option("--project", metavar="NAME", help="A project.")]
IN_PERIOD = {"day": "today", "week": "this week", "month": "this month", "total": "in all"}


@app.command()
def show(key: OfKey = None, project: OfProject = None, as_json: AsJson = False) -> None:
    """Show the limits of a key or a project; of the key at hand unless one is named."""
    if key is None and project is None:
        key = fetch(access.who_am_i())["keyId"]
    holder, name = _holder(key, project)
    answer = fetch(calls.get(holder, name))
    if as_json:
        print_json(answer)
    else:
        _show(holder, name, answer)


@app.command("set")
def set_limits(
    key: OfKey = None,
    project: OfProject = None,
    requests_per_minute: Annotated[str | None, typer.Option(metavar="N|none", help="Such as 600.")] = None,
    tokens_per_minute: Annotated[
        str | None, typer.Option(metavar="N|none", help="Of prompts and answers together, such as 200k.")
    ] = None,
    token_budget: Annotated[str | None, typer.Option(metavar="N|none", help="In a period, such as 5M.")] = None,
    money_budget: Annotated[
        str | None, typer.Option(metavar="N|none", help="In a period, in the currency of the prices.")
    ] = None,
    budget_period: Annotated[Period | None, typer.Option(help="A calendar period, in UTC.")] = None,
    as_json: AsJson = False,
) -> None:
    """Set limits of a key or a project. What is not named stays; none lifts a limit."""
    holder, name = _holder(key, project)
    given: dict[str, Any] = {}
    for field, option, text in (
        ("requestsPerMinute", "--requests-per-minute", requests_per_minute),
        ("tokensPerMinute", "--tokens-per-minute", tokens_per_minute),
        ("tokenBudget", "--token-budget", token_budget),
    ):
        if text is not None:
            given[field] = whole_number(option, text)
    if money_budget is not None:
        given["moneyBudget"] = amount("--money-budget", money_budget)
    if budget_period is not None:
        given["budgetPeriod"] = budget_period.value
    if not given:
        raise UsageFault("Name a limit, such as --requests-per-minute 600.")
    known = fetch(calls.get(holder, name))["limits"]
    answer = fetch(calls.put_fields(holder, name, {**known, **given}))
    if as_json:
        print_json(answer)
    else:
        _show(holder, name, answer)


def _holder(key: str | None, project: str | None) -> tuple[calls.Holder, str]:
    if key is not None and project is None:
        return "keys", key
    if project is not None and key is None:
        return "projects", project
    raise UsageFault("Name one: --key ID or --project NAME.")


def _show(holder: calls.Holder, name: str, answer: dict[str, Any]) -> None:
    limits, spent = answer["limits"], answer["spent"]
    period = IN_PERIOD.get(spent["period"], spent["period"])
    since = datetime.fromisoformat(spent["since"]).strftime("%Y-%m-%d")
    token_budget, money_budget = limits.get("tokenBudget"), limits.get("moneyBudget")
    pairs(
        (
            ("key" if holder == "keys" else "project", name),
            ("requests a minute", _limit(limits.get("requestsPerMinute"))),
            ("tokens a minute", _limit(limits.get("tokensPerMinute"))),
            ("token budget", _budget(token_budget, spent["tokens"], count, period)),
            ("money budget", _budget(money_budget, spent["money"], _money, period)),
            (
                "spent " + period,
                f"{count(spent['requests'])} requests, {count(spent['tokens'])} tokens, {_money(spent['money'])} money",
            ),
            ("counted since", f"{since} UTC" if spent["period"] != "total" else None),
        )
    )


def _limit(limit: float | None) -> str:
    return "no limit" if limit is None else count(limit)


def _money(sum_of_it: float) -> str:
    return money(sum_of_it, decimals([sum_of_it]))


def _budget(budget: float | None, spent: float, written: Callable[[float], str], period: str) -> str:
    if budget is None:
        return "no limit"
    left = max(0, budget - spent)
    return f"{written(budget)} {period}: {share(spent, budget)} spent, {written(left)} left"
