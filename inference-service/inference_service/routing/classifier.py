"""Domain, complexity and language of a text, by a model that is trained at the start and learns from corrections."""

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, NamedTuple

import numpy as np

from inference_service.routing.examples import COMPLEXITIES, common_words, examples
from inference_service.routing.languages import CYRILLIC
from inference_service.routing.signs import CODE, form
from inference_service.routing.table import MIDDLE, ONE
from inference_service.routing.text import tokens
from inference_service.routing.training import Array, Trained, train

KNOWN_LANGUAGES: Final = ("zh", "en", "de", "fr", "es", "ru", "ja", "ko")
UNKNOWN_ROWS: Final = 4096
UNKNOWN_AT_MOST: Final = 32
LEAST_SQUARE: Final = 300.0
"""A text of one or two known tokens tells little: its evidence is not blown up beyond this."""
LEAST_VOTES: Final = 4.0
"""Two of the commonest words have so many."""
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
    rows: Callable[[], list[int]]
    """For later: they take their time, and nobody waits for them."""


@dataclass(frozen=True, slots=True)
class Correction:
    rows: tuple[int, ...]
    domain: str | None = None
    complexity: str | None = None


class Classifier:
    """Tokens that the examples do not have share rows by their hash; these say nothing until a correction comes."""

    def __init__(self, trained: Trained) -> None:
        self.domains: Final = trained.heads["domain"]
        self._languages: Final = [name if name in KNOWN_LANGUAGES else "other" for name in trained.heads["language"]]
        self._trained: Final = trained
        self._table: Final = trained.table
        self._tokens = trained.table.tokens
        self._first_unknown: Final = len(trained.vocabulary)
        self._at_complexity: Final = len(self.domains)
        self._at_language: Final = self._at_complexity + len(COMPLEXITIES)
        self._at_square: Final = self._table.columns - 1
        self._at_cyrillic: Final = self._at_square - len(CYRILLIC)
        self._corrections: list[Correction] = []
        self._corrected: dict[int, Array] = {}
        self._unknown: dict[int, int] = {}
        """The corrected rows of unknown tokens, as the table holds those of known ones."""

    def read(self, piece: str, language: str | None = None, beside: str | None = None) -> Reading:
        """`language` where the script tells it already; of Cyrillic it tells no more than that. `beside`: of another
        script beside Latin letters, which are names and terms unless they say enough themselves."""
        table, weights = self._table, self._tokens.get
        found = tokens(piece)
        total = sum(filter(None, map(weights, found)), table.nothing)
        outward = form(piece, found, table.typical(total))
        total = sum(filter(None, map(weights, outward)), total)
        rows = partial(self._rows, found, outward)
        if self._unknown:
            total = sum(filter(None, map(self._unknown.get, rows())), total)
        sums = table.unpacked(total)
        chances = self._chances(sums)
        domains = _shares(chances[: self._at_complexity])
        complexities = _shares(chances[self._at_complexity :])
        confidence = max(domains)
        if language is None:
            language = self._most_votes(sums, self._at_language, self._at_cyrillic)
            if beside is not None and max(sums[self._at_language : self._at_cyrillic]) < MIDDLE + LEAST_VOTES * ONE:
                language = beside
        elif language == "ru":
            language = self._most_votes(sums, self._at_cyrillic, self._at_square)
        domain = self.domains[domains.index(confidence)]
        return Reading(language, domain, confidence, domains, complexities, CODE in outward, rows)

    def _rows(self, found: Iterable[str], outward: Iterable[str]) -> list[int]:
        names = [*found, *outward]
        looked_up = list(map(self._trained.vocabulary.get, names))
        rows = [row for row in looked_up if row is not None]
        if len(rows) < len(looked_up):
            unknown = [token for token, row in zip(names, looked_up, strict=True) if row is None]
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
        correction = Correction(
            tuple(row for row in rows if 0 <= row < self._first_unknown + UNKNOWN_ROWS), domain, complexity
        )
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

    def _most_votes(self, sums: tuple[int, ...], start: int, end: int) -> str:
        """The first where there is no vote at all."""
        return self._languages[sums.index(max(sums[start:end]), start, end) - self._at_language]

    def _chances(self, sums: Sequence[int]) -> list[float]:
        """Of domains and complexities; the sums as the table has them."""
        square = (sums[self._at_square] - MIDDLE) / ONE
        scale = 1.0 / (ONE * math.sqrt(max(square, LEAST_SQUARE)))
        middle = MIDDLE * scale
        return [math.exp(each * scale - middle) for each in sums[: self._at_language]]

    def _apply(self, correction: Correction) -> None:
        rows = np.array([self._row(number) for number in correction.rows])
        squares = rows[:, -1]
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
                exponents = np.exp(rows[:, start:end].sum(axis=0) * scale)
                chances = exponents / exponents.sum()
                if chances[answer] > 0.8:
                    break
                chances[answer] -= 1.0
                rows[:, start:end] -= PACE / scale * np.outer(pull, chances) / max(1.0, float(pull @ pull))
        self._keep(correction.rows, rows)

    def _row(self, number: int) -> Array:
        row = self._corrected.get(number)
        if row is not None:
            return row
        known = number < self._first_unknown
        return self._trained.weights[number] if known else np.zeros(self._table.columns)

    def _keep(self, numbers: Sequence[int], rows: Array) -> None:
        self._corrected.update(zip(numbers, map(np.copy, rows), strict=True))
        names = [self._table.names[number] if number < self._first_unknown else None for number in numbers]
        if self._tokens is self._table.tokens:
            self._tokens = dict(self._tokens)
        for number, name, packed in zip(numbers, names, self._table.packed(names, rows), strict=True):
            if name is None:
                self._unknown[number] = packed
            else:
                self._tokens[name] = packed


def _shares(exponents: list[float]) -> list[float]:
    total = sum(exponents)
    return [each / total for each in exponents]


@cache
def _trained() -> Trained:
    return train(examples(), common_words())


def new_classifier() -> Classifier:
    """Trained once a process; corrections belong to the one that learns them."""
    return Classifier(_trained())
