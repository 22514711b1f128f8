"""How long answers get that nobody bounds, told by those before."""

import time
from collections.abc import Collection
from typing import NamedTuple

from inference_service.gateway.quota import MARGIN

USUAL_TOKENS = 4_096
UNKNOWN_TOKENS = 16_384
"""Of a model that the same one has heard before, and of any other."""
LEAST_TOKENS = 256
SHARES = 8
"""Of a limit: so many requests of the usual length fit into it, twice over."""
FADES = 0.98
HALVES_SECONDS = 600.0
MOST_KNOWN = 10_000


class _Longest(NamedTuple):
    tokens: float
    at: float

    def faded(self, now: float) -> float:
        """So that whoever is refused for its sake is not refused for ever."""
        return float(self.tokens * 0.5 ** ((now - self.at) / HALVES_SECONDS))


class Lengths:
    def __init__(self) -> None:
        self._longest: dict[tuple[str, str], _Longest] = {}

    def expected(self, who: str, models: Collection[str], room: float, answers: int) -> int:
        """Tokens of so many answers, of the longest of the models. Each may be as long as the longest that `who` has
        had lately, and longer than those; but others beside it shall find room in a small limit, and no limit shall be
        too small for it. `room`: tokens that the smallest limit has."""
        longest = [self._longest.get((who, model)) for model in models]
        usual = UNKNOWN_TOKENS if None in longest else USUAL_TOKENS
        now = time.monotonic()
        lately = max([one.faded(now) for one in longest if one is not None], default=0.0)
        wanted = max(lately * answers, min(usual * answers, room / SHARES))
        return int(max(LEAST_TOKENS, min(wanted, room / MARGIN)))

    def learn(self, who: str, model: str, tokens: int, *, whole: bool) -> None:
        """Of one answer that nobody had bounded. What broke off, or was left, says only that answers are no shorter."""
        now, which = time.monotonic(), (who, model)
        known = self._longest.get(which)
        if not whole and tokens < (UNKNOWN_TOKENS if known is None else known.faded(now)):
            return
        before = self._longest.pop(which, _Longest(0.0, now))
        self._longest[which] = _Longest(max(float(tokens), FADES * before.faded(now)), now)
        if len(self._longest) > MOST_KNOWN:
            del self._longest[next(iter(self._longest))]
