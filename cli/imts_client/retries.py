"""When a request is sent again, and how long to wait before."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

TRIES = 4
PATIENCE_SECONDS = 60.0
"""A longer Retry-After is the caller's to decide on."""

_PASSING = {502, 503, 504}


@dataclass(frozen=True)
class Retries:
    """`repeatable`: doing it twice is as good as once, so that a lost answer may be asked for again."""

    repeatable: bool

    def after_answer(self, tries: int, status: int, headers: Mapping[str, str]) -> float | None:
        """Seconds until the next try, or None where the answer stands. 429 did nothing, whatever was asked; a budget
        that is used up says in a header of OpenAI's that asking again is in vain."""
        if headers.get("x-should-retry") == "false":
            return None
        if tries >= TRIES or not (status == 429 or (self.repeatable and status in _PASSING)):
            return None
        asked = retry_after(headers)
        if asked is None:
            return backoff(tries)
        return asked if asked <= PATIENCE_SECONDS else None

    def after_break(self, tries: int, *, sent: bool) -> float | None:
        return backoff(tries) if tries < TRIES and (self.repeatable or not sent) else None


def backoff(tries: int, longest: float = 5.0) -> float:
    """0.2 s, then twice as long each time, spread so that many clients do not come back at once."""
    return min(longest, 0.2 * 2.0 ** min(tries - 1, 10)) * random.uniform(0.75, 1.25)  # noqa: S311


def retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
