"""How the classifier is trained: least squares over tokens, made into probabilities.

The heads (domain, complexity) share what they solve. What an example would be given by a model that has not seen it
follows from the same solve; how sure the probabilities are is fitted to that, so that they can be believed. Languages
are told by votes (`languages.py`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from inference_service.routing.examples import COMPLEXITIES, Example, language_words
from inference_service.routing.languages import evidence
from inference_service.routing.signs import Lexicon, lexicon, signs
from inference_service.routing.table import Table
from inference_service.routing.text import TELLING_LETTERS, tokens

Array = npt.NDArray[np.float64]

RIDGE: Final = 0.5
CAUTION: Final = 0.75
"""Examples are more like each other than what people will ask: the model is to be less sure than they make it."""
WORDS_A_PIECE: Final = 4
SHARPNESS: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)


@dataclass(frozen=True)
class Trained:
    """`weights` has a row for each token, a column for each label of all heads, and a last one: the token's square.
    `beyond`: what other tokens say of the language alone, in the columns of that head.

    A text is the sum of its tokens' rows, over the root of the sum of their squares."""

    lexicon: Lexicon
    vocabulary: dict[str, int]
    heads: dict[str, tuple[str, ...]]
    weights: Array
    beyond: dict[str, list[float]]

    @cached_property
    def table(self) -> Table:
        return Table(self.vocabulary, self.lexicon, self.heads["domain"], self.weights, self.beyond)


def train(examples: Sequence[Example], common: dict[str, str]) -> Trained:
    known_words = lexicon((each.domain, each.text) for each in examples if each.complexity is None)
    documents, labels = _documents(examples, common, known_words)
    heads = {
        "domain": tuple(sorted({each["domain"] for each in labels if "domain" in each})),
        "complexity": COMPLEXITIES,
    }
    vocabulary: dict[str, int] = {}
    rows = [[vocabulary.setdefault(token, len(vocabulary)) for token in document] for document in documents]
    rarity = _rarity(rows, len(vocabulary))
    gram, norms = _gram(rows, rarity)
    languages = evidence(examples, language_words())
    votes = sum(map(len, heads.values()))
    weights = np.zeros((len(vocabulary), votes + len(languages.names) + 1))
    start = 0
    for head, names in heads.items():
        known = [number for number, each in enumerate(labels) if each.get(head) in names]
        answers = np.array([names.index(labels[number][head]) for number in known])
        columns = slice(start, start + len(names))
        duals, sharpness = _solve(gram[np.ix_(known, known)], answers, len(names))
        for number, dual in zip(known, duals, strict=True):
            weights[rows[number], columns] += np.outer(rarity[rows[number]] / norms[number], dual * sharpness)
        start += len(names)
    weights *= rarity[:, None]
    weights[:, -1] = rarity**2
    heads["language"] = languages.names
    for token in vocabulary.keys() & languages.of.keys():
        weights[vocabulary[token], votes:-1] = languages.of[token]
    beyond = {token: told for token, told in languages.of.items() if token not in vocabulary}
    return Trained(known_words, vocabulary, heads, weights, beyond)


def _documents(
    examples: Sequence[Example], common: dict[str, str], known: Lexicon
) -> tuple[list[list[str]], list[dict[str, str]]]:
    documents: list[list[str]] = []
    labels: list[dict[str, str]] = []
    for example in examples:
        if example.complexity is not None:
            documents.append(signs(example.text, known))
            labels.append({"domain": example.domain, "complexity": example.complexity})
            continue
        for piece in _pieces(example.text):
            documents.append(list(tokens(piece)))
            labels.append({"domain": example.domain})
    for words in common.values():
        for piece in _pieces(words):
            own = piece.split()
            documents.append([token for token in tokens(piece) if token not in TELLING_LETTERS or token in own])
            labels.append({})
    return documents, labels


def _pieces(words: str) -> Iterable[str]:
    parts = words.split()
    for start in range(0, len(parts), WORDS_A_PIECE):
        yield " ".join(parts[start : start + WORDS_A_PIECE])


def _rarity(rows: list[list[int]], size: int) -> Array:
    seen = Counter(row for document in rows for row in document)
    counts = np.array([seen[row] for row in range(size)], dtype=float)
    return np.log1p(len(rows) / counts)


def _gram(rows: list[list[int]], rarity: Array) -> tuple[Array, Array]:
    """How alike any two documents are: only tokens that several documents have need a column."""
    norms = np.array([np.sqrt((rarity[document] ** 2).sum()) or 1.0 for document in rows])
    seen = np.bincount(np.concatenate(rows), minlength=len(rarity))
    column = np.cumsum(seen > 1) - 1
    table = np.zeros((len(rows), int((seen > 1).sum())), dtype=np.float32)
    for number, document in enumerate(rows):
        shared = [row for row in document if seen[row] > 1]
        table[number, column[shared]] = rarity[shared] / norms[number]
    gram = (table @ table.T).astype(np.float64)
    np.fill_diagonal(gram, 1.0)
    return gram, norms


def _solve(gram: Array, answers: npt.NDArray[np.int_], classes: int) -> tuple[Array, float]:
    targets = np.eye(classes)[answers] - 1.0 / classes
    weight = len(answers) / (classes * np.maximum(np.bincount(answers, minlength=classes), 1))
    ridge = RIDGE / np.sqrt(weight[answers])
    inverse = np.linalg.inv(gram + np.diag(ridge))
    duals = inverse @ targets
    unseen = targets - duals / np.diag(inverse)[:, None]
    return duals, _sharpness(unseen, answers)


def _sharpness(scores: Array, answers: npt.NDArray[np.int_]) -> float:
    def loss(factor: float) -> float:
        scaled = scores * factor
        scaled -= scaled.max(axis=1, keepdims=True)
        exponents = np.exp(scaled)
        chances = exponents[np.arange(len(answers)), answers] / exponents.sum(axis=1)
        return float(-np.log(np.maximum(chances, 1e-9)).mean())

    return CAUTION * min(SHARPNESS, key=loss)
