"""Text for people: tables, ages, sizes."""

import re
import sys
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def clean(value: Any) -> str:
    """Without what would steer a terminal: names and log lines come from anywhere."""
    return _CONTROL.sub("", "" if value is None else str(value))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    nothing: str,
    *,
    numbers: Collection[str] = (),
    total: Sequence[Any] | None = None,
) -> None:
    """Fits a terminal's width; elsewhere nothing is cut, so that scripts read whole ids. Columns in `numbers` stand to
    the right; `total` stands below a line."""
    cells = [[clean(value) for value in row] for row in rows]
    foot = None if total is None else [clean(value) for value in total]
    if not cells:
        print(nothing)
    elif sys.stdout.isatty():
        _rich_table(columns, cells, numbers, foot)
    else:
        _plain_table(columns, cells, numbers, foot)


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """In columns of a terminal, of which a Chinese character takes two."""
    from rich.cells import cell_len

    return [max(cell_len(cell) for cell in column) for column in zip(*rows, strict=True)]


def _plain_table(
    columns: Sequence[str], cells: list[list[str]], numbers: Collection[str], foot: list[str] | None
) -> None:
    from rich.cells import cell_len

    rows = [list(columns), *cells]
    room = widths([*rows, foot] if foot else rows)
    if foot:
        rows += [["─" * width for width in room], foot]
    for row in rows:
        padded = []
        for name, cell, width in zip(columns, row, room, strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(space + cell if name in numbers else cell + space)
        print("  ".join(padded).rstrip())


def _rich_table(
    columns: Sequence[str], cells: list[list[str]], numbers: Collection[str], foot: list[str] | None
) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    look: dict[str, Any] = {"header_style": "bold", "footer_style": "bold", "pad_edge": False, "show_edge": False}
    ruled = {"box": SIMPLE, "padding": (0, 1, 0, 0), "show_footer": True} if foot else {"box": None}
    grid = Table(**look, **ruled)
    for place, name in enumerate(columns):
        footer = Text(foot[place]) if foot else ""
        if name in numbers:
            grid.add_column(name, footer, justify="right", no_wrap=True)
        else:
            grid.add_column(name, footer, no_wrap=name in {"ID", "DAY"}, overflow="fold")
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    Console().print(grid)


def pairs(given: Iterable[tuple[str, Any]]) -> None:
    """One name and value a line, those without a value left out."""
    shown = [(name, clean(value)) for name, value in given if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name.ljust(width)}  {value}")


def moment(stamp: str | None) -> datetime | None:
    if not stamp:
        return None
    at = datetime.fromisoformat(stamp)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def clock(stamp: str | None) -> str:
    at = moment(stamp)
    return at.astimezone().strftime("%H:%M:%S") if at else ""


def age(stamp: str | None) -> str:
    at = moment(stamp)
    if at is None:
        return ""
    seconds = (datetime.now(UTC) - at).total_seconds()
    return f"in {duration(-seconds)}" if seconds < -1 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    seconds = max(0, round(seconds))
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def size(count: float | None) -> str:
    if count is None:
        return ""
    for name in ("B", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.0f} {name}" if name == "B" else f"{count:.1f} {name}"
        count /= 1_000
    return f"{count:.1f} TB"


def progress(job: dict[str, Any]) -> str:
    return progress_text(job.get("progress") or {})


def progress_text(data: dict[str, Any]) -> str:
    parts = []
    if data.get("percent") is not None:
        parts.append(f"{data['percent']:.0f}%")
    if data.get("step") is not None:
        parts.append(f"{data['step']}/{data['totalSteps']}" if data.get("totalSteps") else f"step {data['step']}")
    if data.get("etaSeconds"):
        parts.append(f"{duration(data['etaSeconds'])} left")
    return " ".join(parts)


def metrics_text(data: dict[str, Any]) -> str:
    return "  ".join(
        f"{name} {value:.4g}"
        for name, value in data.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    )
