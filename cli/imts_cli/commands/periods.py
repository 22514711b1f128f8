"""Calendar periods as options take them."""

from enum import Enum


class Period(Enum):
    day = "day"
    week = "week"
    month = "month"
    total = "total"
