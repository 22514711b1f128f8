"""What an operator believes about models before anything is known: day one is not random."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from inference_service.routing.features import DOMAINS, LANGUAGES, Vector, typical_context

UNKNOWN_QUALITY: Final = 0.7
"""Of a model that nobody has said anything about: rather good, and with all doubt, so that it is tried."""
USUAL_STRENGTH: Final = 10.0


@dataclass(frozen=True, slots=True)
class Belief:
    """As if `strength` answers of this quality (0 to 1) had been seen; no language or domain: of all."""

    model: str
    quality: float
    language: str | None = None
    domain: str | None = None
    strength: float = USUAL_STRENGTH

    def __post_init__(self) -> None:
        if not 0 <= self.quality <= 1:
            raise ValueError(f"quality: {self.quality} of the belief about `{self.model}` is not between 0 and 1")
        if not 0 <= self.strength <= 10_000:
            raise ValueError(f"strength: {self.strength} of the belief about `{self.model}` is not from 0 to 10000")
        if self.language is not None and self.language not in LANGUAGES:
            raise ValueError(f"language: `{self.language}` is none of {', '.join(LANGUAGES)}")
        if self.domain is not None and self.domain not in DOMAINS:
            raise ValueError(f"domain: `{self.domain}` is none of {', '.join(DOMAINS)}")


class Beliefs:
    """The most specific one counts: language and domain, then domain, then language, then the model as such."""

    def __init__(self, beliefs: Iterable[Belief]) -> None:
        self._all: Final = tuple(beliefs)
        self._quality: Final = {(each.model, each.language, each.domain): each.quality for each in self._all}

    def quality(self, model: str, language: str, domain: str) -> float:
        known = self._quality
        for key in ((model, language, domain), (model, None, domain), (model, language, None), (model, None, None)):
            if key in known:
                return known[key]
        return UNKNOWN_QUALITY

    def told(self, model: str) -> list[tuple[Vector, float]]:
        """The contexts that beliefs about the model speak of, and how strongly."""
        return [
            (typical_context(each.language, each.domain), each.strength) for each in self._all if each.model == model
        ]


def precision(told: Iterable[tuple[Vector, float]], ridge: Vector) -> Vector:
    whole = np.diag(ridge)
    for context, strength in told:
        whole += strength * np.outer(context, context)
    return whole
