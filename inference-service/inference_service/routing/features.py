"""The features of a request that its routing goes by."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imts_shared.contracts import routes
from inference_service.routing.classifier import KNOWN_LANGUAGES, Classifier, new_classifier
from inference_service.routing.content import asked
from inference_service.routing.examples import COMPLEXITIES
from inference_service.routing.fitting import fit
from inference_service.routing.text import estimated_tokens, sample, script

DOMAINS: Final = routes.DOMAINS
LENGTHS: Final = ("short", "medium", "long", "huge")
LENGTH_BOUNDS: Final = (64, 512, 4096)
LANGUAGES: Final = (*KNOWN_LANGUAGES, "other")
CONTEXT_SIZE: Final = 1 + len(DOMAINS) + len(KNOWN_LANGUAGES) + 6
_ONE_OF_LANGUAGES: Final = {language: [float(language == known) for known in KNOWN_LANGUAGES] for language in LANGUAGES}

USUAL_FIT: Final = 0.5
"""Of tools in another language than the request, which have no words in common with it: that says nothing."""

Vector = npt.NDArray[np.floating[Any]]


@dataclass(slots=True, eq=False)
class Features:
    """`context` is what the bandit sees; `rows` let the classifier learn from a correction without the text. They are
    looked up when somebody asks for them (`reread`)."""

    language: str
    domain: str
    complexity: float
    complexity_class: str
    length_tokens: int
    length_class: str
    tools: int
    code: bool
    structured: bool
    confidence: float
    context: Vector
    reread: Callable[[], list[int]]

    @property
    def rows(self) -> list[int]:
        return self.reread()

    def as_dict(self) -> dict[str, Any]:
        return {
            "language": self.language,
            "domain": self.domain,
            "complexity": round(self.complexity, 3),
            "complexityClass": self.complexity_class,
            "lengthTokens": self.length_tokens,
            "lengthClass": self.length_class,
            "tools": self.tools,
            "code": self.code,
            "structured": self.structured,
            "confidence": round(self.confidence, 3),
        }

    def record(self) -> dict[str, Any]:
        """All of it, for replay; no text can be read back from it."""
        return self.as_dict() | {"context": [round(each, 4) for each in self.context.tolist()], "rows": self.rows}


def from_record(record: Mapping[str, Any]) -> Features:
    context = np.array(record["context"], dtype=float)
    if context.shape != (CONTEXT_SIZE,):
        raise ValueError(f"context: {CONTEXT_SIZE} numbers expected, {context.shape} found")
    rows = list(record["rows"])
    return Features(
        language=record["language"],
        domain=record["domain"],
        complexity=record["complexity"],
        complexity_class=record["complexityClass"],
        length_tokens=record["lengthTokens"],
        length_class=record["lengthClass"],
        tools=record["tools"],
        code=record["code"],
        structured=record["structured"],
        confidence=record["confidence"],
        context=context,
        reread=rows.copy,
    )


class Extractor:
    def __init__(self, classifier: Classifier | None = None) -> None:
        self.classifier: Final = classifier or new_classifier()

    def extract(self, content: Any) -> Features:
        """From the parsed body of a chat, completions or responses call; never raises, whatever it is."""
        text, characters, tools, structured = asked(content)
        return self._of(text, characters, tools, structured)

    def of_text(self, query: str) -> Features:
        return self._of(query, len(query), [], False)

    def _of(self, text: str, characters: int, tools: list[Any], structured: bool) -> Features:
        piece = sample(text)
        letters = script(piece)
        reading = self.classifier.read(piece, letters and letters.language, letters and letters.wide_language)
        simple, medium, hard = reading.complexities
        complexity = medium / 2 + hard
        size = estimated_tokens(characters, piece, letters)
        length = 0 if size < LENGTH_BOUNDS[0] else 1 if size < LENGTH_BOUNDS[1] else 2 if size < LENGTH_BOUNDS[2] else 3
        context = [
            1.0,
            *reading.domains,
            *_ONE_OF_LANGUAGES[reading.language],
            complexity,
            min(math.log1p(size) / 8, 1.5),
            1.0 if reading.code else 0.0,
            1.0 if tools else 0.0,
            1.0 if structured else 0.0,
            self._fit(piece, tools, reading.language) if tools else 0.0,
        ]
        best = max(simple, medium, hard)
        return Features(
            reading.language,
            reading.domain,
            complexity,
            COMPLEXITIES[0 if best == simple else 1 if best == medium else 2],
            size,
            LENGTHS[length],
            len(tools),
            reading.code,
            structured,
            reading.confidence,
            np.array(context),
            reading.rows,
        )

    @staticmethod
    def _fit(piece: str, tools: list[Any], language: str) -> float:
        found = fit(piece, tools)
        return USUAL_FIT if found == 0.0 and language != "en" else found


def typical_context(language: str | None, domain: str | None) -> Vector:
    """The context of a middling request of this language and domain, for beliefs about them."""
    domains: Sequence[float] = [1 / len(DOMAINS) if domain is None else float(domain == each) for each in DOMAINS]
    languages = [1 / len(LANGUAGES)] * len(KNOWN_LANGUAGES) if language is None else _ONE_OF_LANGUAGES[language]
    return np.array([1.0, *domains, *languages, 0.4, 0.5, 0.0, 0.0, 0.0, 0.0])
