"""Domain, complexity and language of a text, by a model that is trained at the start and learns from corrections."""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

from inference_service.routing.examples import COMPLEXITIES, common_words, examples
from inference_service.routing.signs import CODE, signs
from inference_service.routing.training import Trained, train

KNOWN_LANGUAGES: Final = ("zh", "en", "de", "fr", "es", "ru", "ja", "ko")
UNKNOWN_ROWS: Final = 4096
UNKNOWN_AT_MOST: Final = 32
LEAST_SQUARE: Final = 300.0
"""A text of one or two known tokens tells little: its evidence is not blown up beyond this."""
STEPS: Final = 12
PACE: Final = 0.5
CORRECTIONS_KEPT: Final = 500


class Reading(NamedTuple):
    language: str
    domain: str
    confidence: float
    domains: list[float]
    complexities: list[float]
    code: bool
    rows: list[int]


@dataclass(frozen=True, slots=True)
class Correction:
    rows: tuple[int, ...]
    domain: str | None = None
    complexity: str | None = None


class Classifier:
    """Tokens that the examples do not have share rows by their hash; these say nothing until a correction comes."""

    def __init__(self, trained: Trained) -> None:
        self.domains: Final = trained.heads["domain"]
        self._languages: Final = trained.heads["language"]
        self._lexicon: Final = trained.lexicon
        self._vocabulary: Final = trained.vocabulary
        self._first_unknown: Final = len(trained.vocabulary)
        silent = np.zeros((UNKNOWN_ROWS, trained.weights.shape[1]))
        self._weights = np.vstack([trained.weights, silent]).astype(np.float32)
        self._at_complexity: Final = len(self.domains)
        self._at_language: Final = self._at_complexity + len(COMPLEXITIES)
        self._corrections: list[Correction] = []

    def read(self, piece: str, language: str | None = None) -> Reading:
        """`language` where the script tells it already."""
        found = signs(piece, self._lexicon)
        rows = self._rows(found)
        chances = self._chances(rows)
        domains = _shares(chances[: self._at_complexity])
        complexities = _shares(chances[self._at_complexity : self._at_language])
        confidence = max(domains)
        if language is None:
            languages = chances[self._at_language :]
            language = self._languages[languages.index(max(languages))]
            if language not in KNOWN_LANGUAGES:
                language = "other"
        domain = self.domains[domains.index(confidence)]
        return Reading(language, domain, confidence, domains, complexities, CODE in found, rows)

    def _rows(self, found: dict[str, None]) -> list[int]:
        looked_up = list(map(self._vocabulary.get, found))
        rows = [row for row in looked_up if row is not None]
        if len(rows) < len(looked_up):
            unknown = [token for token, row in zip(found, looked_up, strict=True) if row is None]
            first = self._first_unknown
            rows += [
                first + zlib.crc32(token.encode("utf-8", "surrogatepass")) % UNKNOWN_ROWS
                for token in unknown[:UNKNOWN_AT_MOST]
            ]
        return rows

    def learn(self, rows: Sequence[int], *, domain: str | None = None, complexity: str | None = None) -> None:
        """A person says what a text was; the model then says so too, and of texts like it."""
        if domain is not None and domain not in self.domains:
            raise ValueError(f"domain: `{domain}` is none of {', '.join(self.domains)}")
        if complexity is not None and complexity not in COMPLEXITIES:
            raise ValueError(f"complexity: `{complexity}` is none of {', '.join(COMPLEXITIES)}")
        correction = Correction(tuple(row for row in rows if 0 <= row < len(self._weights)), domain, complexity)
        if not correction.rows:
            return
        self._corrections = [*self._corrections[-CORRECTIONS_KEPT + 1 :], correction]
        self._apply(correction)

    def to_state(self) -> list[dict[str, Any]]:
        return [
            {"rows": list(each.rows), "domain": each.domain, "complexity": each.complexity}
            for each in self._corrections
        ]

    def restore(self, state: Iterable[Mapping[str, Any]]) -> None:
        for each in state:
            self.learn(each["rows"], domain=each.get("domain"), complexity=each.get("complexity"))

    def _chances(self, rows: list[int]) -> list[float]:
        """In plain numbers from where they are few: numpy's own code has to be fetched first, which takes longer."""
        total: list[float] = np.add.reduce(self._weights.take(rows, axis=0), axis=0).tolist()
        scale = 1.0 / math.sqrt(max(total[-1], LEAST_SQUARE))
        return [math.exp(each * scale) for each in total[:-1]]

    def _apply(self, correction: Correction) -> None:
        rows = np.array(correction.rows)
        squares = self._weights[rows, -1]
        scale = 1.0 / math.sqrt(max(float(squares.sum()), LEAST_SQUARE))
        # Tokens that the examples lack have no square yet: they take up what is new as well as a middling one does.
        pull = np.where(squares > 0, np.sqrt(squares), 3.0) * scale
        wanted: list[tuple[int, int, int]] = []
        if correction.domain is not None:
            wanted.append((0, self._at_complexity, self.domains.index(correction.domain)))
        if correction.complexity is not None:
            wanted.append((self._at_complexity, self._at_language, COMPLEXITIES.index(correction.complexity)))
        for start, end, answer in wanted:
            for _ in range(STEPS):
                chances = np.array(_shares(self._chances(list(correction.rows))[start:end]))
                if chances[answer] > 0.8:
                    break
                chances[answer] -= 1.0
                self._weights[rows, start:end] -= PACE / scale * np.outer(pull, chances) / max(1.0, float(pull @ pull))


def _shares(exponents: list[float]) -> list[float]:
    total = sum(exponents)
    return [each / total for each in exponents]


@cache
def _trained() -> Trained:
    return train(examples(), common_words())


def new_classifier() -> Classifier:
    """Trained once a process; corrections belong to the one that learns them."""
    return Classifier(_trained())
