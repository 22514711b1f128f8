"""Numbers for people: thousands, money, shares; and the days that an option names."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from imts_cli.commands.exits import UsageFault


def count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """18.0M for 18,035,063: where there is no room."""
    if value is None:
        return ""
    for size, name in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.1f}{name}"
    return f"{value:.0f}"


def decimals(amounts: Iterable[float | None]) -> int:
    """So many that the smallest amount shows, all alike, so that they line up."""
    least = min((abs(amount) for amount in amounts if amount), default=1.0)
    return 2 if least >= 0.1 else 4 if least >= 0.001 else 6


def money(amount: float | None, places: int = 2) -> str:
    return "" if amount is None else f"{amount:,.{places}f}"


def share(part: float, whole: float) -> str:
    if not whole:
        return "0%" if not part else "over"
    percent = 100 * part / whole
    return f"{percent:.0f}%" if percent >= 1 or not part else "<1%"


def seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1_000:.0f} ms" if value < 1 else f"{value:.1f} s"


def day_from(option: str, text: str) -> date:
    """2026-01-31, today, yesterday, or 30d: so many days ago. In UTC, as usage is counted."""
    today = datetime.now(UTC).date()
    named = {"today": today, "yesterday": today - timedelta(days=1)}
    if text in named:
        return named[text]
    span = re.fullmatch(r"(\d{1,5})d", text)
    try:
        return today - timedelta(days=int(span[1])) if span else date.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageFault(f"{option} {text!r} is no day: write 2026-01-31, today, or 30d for 30 days ago.") from None


def whole_number(option: str, text: str) -> int | None:
    """1500, 1_500, 20k, 3M; none is no limit."""
    if text == "none":
        return None
    found = re.fullmatch(r"(\d{1,15})([kMG]?)", text.replace("_", ""), re.ASCII)
    if not found:
        raise UsageFault(f"{option} takes a whole number such as 500, 20k or 3M, or none, not {text!r}.")
    return int(found[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[found[2]]


def amount(option: str, text: str) -> float | None:
    """A number of money or the like; none is no limit."""
    if text == "none":
        return None
    if not re.fullmatch(r"\d{1,15}(\.\d{1,15})?", text, re.ASCII):
        raise UsageFault(f"{option} takes a number such as 12.50, or none, not {text!r}.")
    return float(text)
