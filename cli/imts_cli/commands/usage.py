"""imts usage"""

import csv
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import date
from typing import Annotated, Any

import typer

from imts_cli.commands.exits import UsageFault, note
from imts_cli.commands.figures import count, day_from, decimals, money, short
from imts_cli.commands.output import clean, table, widths
from imts_cli.commands.platform import AsJson, fetch_list, print_json
from imts_client.calls import limits as calls

HELP = "Count what was asked of models: requests, tokens and money, by day, key, model, project or upstream."

FIELDS = {
    "day": ("day",),
    "key": ("keyId", "keyName"),
    "project": ("project",),
    "model": ("model",),
    "upstream": ("upstream",),
}
COUNTS = ("requests", "failed", "inputTokens", "cachedTokens", "outputTokens", "estimatedTokens", "totalTokens", "cost")
NUMBERS = {"REQUESTS": "requests", "FAILED": "failed", "INPUT": "inputTokens", "CACHED": "cachedTokens",
           "OUTPUT": "outputTokens", "TOKENS": "totalTokens"}  # fmt: skip
DISPENSABLE = ("CACHED", "FAILED", "TOKENS")
"""Left out where it is all nothing, or a terminal is too narrow."""
LONGEST_NAME = 20


def usage(
    by: Annotated[str, typer.Option(metavar="LIST", help="Of day, key, model, project, upstream.")] = "day,model",
    since: Annotated[
        str, typer.Option("--from", metavar="DAY", help="2026-01-31, today, or 30d for 30 days ago; all: no bound.")
    ] = "30d",
    until: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Up to and with this day.")] = None,
    project: Annotated[str | None, typer.Option(help="One project.")] = None,
    key: Annotated[str | None, typer.Option(metavar="ID", help="One key.")] = None,
    model: Annotated[str | None, typer.Option(help="One model.")] = None,
    upstream: Annotated[str | None, typer.Option(help="A provider's name, or deployment.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print it as CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    if as_csv and as_json:
        raise UsageFault("Name one of --csv and --json.")
    parts = _parts(by)
    first = None if since == "all" else day_from("--from", since)
    last = day_from("--to", until) if until else None
    if first and last and last < first:
        raise UsageFault(f"--to {last} is before --from {first}.")
    listing = calls.usage(parts, first, last, project=project, key=key, model=model, upstream=upstream)
    found = fetch_list(listing, None)
    if as_json:
        print_json(found)
    elif as_csv:
        _csv(parts, found["items"])
    else:
        _table(parts, found["items"], found["total"], first, last)


def _parts(by: str) -> list[str]:
    parts = [part.strip() for part in by.split(",") if part.strip()]
    unknown = [part for part in parts if part not in FIELDS]
    if unknown or not parts:
        raise UsageFault(f"--by takes of {', '.join(FIELDS)}, with commas between them, not {by!r}.")
    return list(dict.fromkeys(parts))


def _csv(parts: Sequence[str], lines: list[dict[str, Any]]) -> None:
    fields = [field for part in parts for field in FIELDS[part]] + list(COUNTS)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([_cell(line.get(field)) for field in fields] for line in lines)


def _cell(value: Any) -> Any:
    """A spreadsheet must not take a name for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _table(
    parts: Sequence[str], lines: list[dict[str, Any]], total: dict[str, Any], first: date | None, last: date | None
) -> None:
    texts = [[clean(_text(part, line)) for part in parts] for line in lines]
    figures = _figures([*lines, total], texts)
    columns = list(figures[-1])
    table(
        [*(part.upper() for part in parts), *columns],
        ([*text, *figure.values()] for text, figure in zip(texts, figures[:-1], strict=True)),
        "Nothing was asked of models" + (f" since {first}" if first else "") + (f" until {last}" if last else "") + ".",
        numbers={*columns},
        total=["total", *[""] * (len(parts) - 1), *figures[-1].values()],
    )
    if not lines:
        return
    gone = [name for name in DISPENSABLE if name not in columns and total.get(NUMBERS[name])]
    if gone:
        note(f"No room for {', '.join(gone)}: a wider terminal or --csv has it.")
    if total.get("estimatedTokens"):
        note(f"{count(total['estimatedTokens'])} of the tokens are estimated: of answers that were cut.")


def _figures(lines: list[dict[str, Any]], texts: list[list[str]]) -> list[dict[str, str]]:
    """The columns of numbers, as many and as exact as the terminal has room for. Columns of nothing are left out."""
    places = decimals(line.get("cost") for line in lines)
    shown = {name: field for name, field in NUMBERS.items() if name not in DISPENSABLE or lines[-1].get(field)}

    def written(how: Callable[[float | None], str]) -> list[dict[str, str]]:
        return [
            {name: how(line.get(field)) for name, field in shown.items()} | {"COST": money(line.get("cost"), places)}
            for line in lines
        ]

    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    found = written(count)
    for dispensable in DISPENSABLE:
        if room is None or _width(found, texts) <= room:
            return found
        shown.pop(dispensable, None)
        found = written(count)
    return found if room is None or _width(found, texts) <= room else written(short)


def _width(figures: list[dict[str, str]], texts: list[list[str]]) -> int:
    """How wide the table is at least: long names may fold."""
    numbers = widths([list(figures[-1]), *(list(figure.values()) for figure in figures)])
    names = [min(width, LONGEST_NAME) for width in widths(texts)] if texts else []
    return sum(numbers) + sum(names) + 2 * (len(numbers) + len(names) - 1)


def _text(part: str, line: dict[str, Any]) -> Any:
    if part == "key":
        return line.get("keyName") or line.get("keyId")
    return line.get(part)
