"""When the running period of a budget began, in UTC."""

from datetime import UTC, datetime, timedelta

from imts_shared.contracts.limits import Period

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def start(period: Period, now: datetime) -> datetime:
    """Weeks begin on Mondays; `total` began with the epoch."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == Period.day:
        return day
    if period == Period.week:
        return day - timedelta(days=day.weekday())
    if period == Period.month:
        return day.replace(day=1)
    return EPOCH
