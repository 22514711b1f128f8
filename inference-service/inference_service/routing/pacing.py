"""A hard budget over a period: a price on money that keeps the pace, and an end that is not overrun.

The price rises while money is spent faster than the rest of the period allows, and falls while it is spent slower.
What a request may cost at worst is held back from its decision until its outcome is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

PATIENCE: Final = 40.0
"""After about so many requests, each a usual request's cost too dear, the price is a usual quality's worth."""
HIGHEST_PRESSURE: Final = 20.0
USUAL_MEMORY: Final = 200.0
HELD_SECONDS: Final = 3600.0
"""An outcome that never came: what was held for it is given back."""


@dataclass(frozen=True, slots=True)
class Budget:
    """`amount` for each period of `seconds`, the first of which begins at `start`."""

    amount: float
    start: float
    seconds: float

    def __post_init__(self) -> None:
        if not self.amount > 0:
            raise ValueError(f"amount: {self.amount} is no budget; leave the budget out where there is none")
        if not self.seconds > 0:
            raise ValueError(f"seconds: {self.seconds} is no period")

    def period(self, at: float) -> int:
        return int((at - self.start) // self.seconds)

    def seconds_left(self, now: float) -> float:
        return self.start + (self.period(now) + 1) * self.seconds - now


class Pacer:
    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held: dict[int, tuple[float, float]] = {}
        self._held_sum = 0.0
        self._numbers = count(1)
        self._begin()

    def _begin(self) -> None:
        self._period = 0
        self._spent = 0.0
        self._pressure = 0.0
        self._usual = 0.0
        self._usual_of = 0
        self._at: float | None = None

    def change(self, budget: Budget) -> None:
        """Of another amount: what was spent stays spent. In other periods the pace begins anew. What is held stays held
        in either case: its requests are under way."""
        if (budget.start, budget.seconds) != (self._budget.start, self._budget.seconds):
            self._begin()
        self._budget = budget

    @property
    def pressure(self) -> float:
        return self._pressure

    def price(self) -> float:
        """What a unit of money counts, in quality."""
        return self._pressure / self._usual if self._usual > 0 else 0.0

    def spent(self, now: float) -> float:
        self._enter(now)
        return self._spent

    def left(self, now: float) -> float:
        self._enter(now)
        while self._held:
            number, (_, until) = next(iter(self._held.items()))
            if until > now:
                break
            self.release(number)
        return self._budget.amount - self._spent - self._held_sum

    def hold(self, worst: float, now: float) -> int:
        number = next(self._numbers)
        self._held[number] = (worst, now + HELD_SECONDS)
        self._held_sum += worst
        return number

    def release(self, number: int) -> None:
        worst, _ = self._held.pop(number, (0.0, 0.0))
        self._held_sum = self._held_sum - worst if self._held else 0.0

    def spend(self, cost: float, at: float) -> None:
        """Of an own request or of another replica's; one of a period that is over changes nothing."""
        if self._budget.period(at) < self._period:
            return
        self._enter(at)
        since = max(0.0, at - self._at) if self._at is not None else 0.0
        self._at = at if self._at is None else max(at, self._at)
        allowed = max(0.0, self._budget.amount - self._spent) * min(1.0, since / self._budget.seconds_left(at))
        self._spent += cost
        self._usual_of = min(self._usual_of + 1, int(USUAL_MEMORY))
        self._usual += (cost - self._usual) / self._usual_of
        if self._usual > 0:
            # What was left over in quiet hours may be spent in busy ones: behind the plan, spending costs nothing.
            counted = cost if self._spent > self._planned(at) else 0.0
            moved = self._pressure + (counted - allowed) / (self._usual * PATIENCE)
            self._pressure = min(max(moved, 0.0), HIGHEST_PRESSURE)

    def to_state(self) -> dict[str, Any]:
        return {
            "period": self._period,
            "spent": self._spent,
            "pressure": self._pressure,
            "usual": self._usual,
            "usualOf": self._usual_of,
            "at": self._at,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._period = int(state["period"])
        self._spent = float(state["spent"])
        self._pressure = float(state["pressure"])
        self._usual = float(state["usual"])
        self._usual_of = int(state["usualOf"])
        self._at = state["at"]

    def _planned(self, at: float) -> float:
        return self._budget.amount * (1.0 - self._budget.seconds_left(at) / self._budget.seconds)

    def _enter(self, now: float) -> None:
        period = self._budget.period(now)
        if period > self._period:
            self._period, self._spent = period, 0.0
