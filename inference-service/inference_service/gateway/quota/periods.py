"""The calendar periods that budgets renew in, in UTC."""

from datetime import UTC, datetime, timedelta

from imts_shared.contracts.limits import Period

FOR_EVER = float("inf")


def running(period: Period, at: float) -> tuple[str, float]:
    """The name of the period that `at` lies in, and when it ends."""
    today = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.day:
        return f"day:{today:%Y-%m-%d}", (today + timedelta(days=1)).timestamp()
    if period is Period.week:
        monday = today - timedelta(days=today.weekday())
        return f"week:{monday:%Y-%m-%d}", (monday + timedelta(days=7)).timestamp()
    if period is Period.month:
        first = today.replace(day=1)
        return f"month:{first:%Y-%m-%d}", (first + timedelta(days=32)).replace(day=1).timestamp()
    return "total", FOR_EVER


def covers(period: Period, start: datetime, at: float) -> bool:
    """Whether the period that began at `start` is still the running one."""
    return period is Period.total or running(period, start.timestamp()) == running(period, at)
