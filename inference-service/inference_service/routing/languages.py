"""By what a language is told: how much each token speaks for it.

A token speaks for a language by how often it stands there, and the most votes win: that is right for the commonest
words, which are what short questions have most of, and it asks nothing of how many languages there are."""

import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from inference_service.routing.examples import Example
from inference_service.routing.text import tokens

CYRILLIC: Final = ("ru", "cyrillic")
FIRST: Final = ("en", "ru")
"""Where nothing tells: of Latin letters, which names and code are, and of Cyrillic ones."""
LISTED: Final = 8.0
LISTED_PLAIN: Final = 3.0
"""As people write it who have no such letters at hand."""
LISTED_BEGINNING: Final = 2.0
SEEN: Final = 1.0
SEEN_BEGINNING: Final = 0.3
LEAST_PLAIN: Final = 3
_PLAIN_LETTERS: Final = str.maketrans("ıłøđ", "ilod")


@dataclass(frozen=True, slots=True)
class Evidence:
    """`of` has a number for each of the names; those in Latin letters come first, then those in Cyrillic."""

    names: tuple[str, ...]
    of: Mapping[str, list[float]]


def evidence(examples: Iterable[Example], words: Iterable[tuple[str, str]]) -> Evidence:
    """From texts, and from languages and their commonest words. Only languages that have such words are told."""
    times: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    listed: dict[str, dict[str, float]] = defaultdict(dict)
    for language, line in words:
        for token, weight in _listed(line):
            listed[language][token] = max(weight, listed[language].get(token, 0.0))
    for example in examples:
        if example.language in listed:
            for token in filter(_is_word, tokens(example.text)):
                if len(token) == 1 and token not in listed[example.language]:
                    continue  # one letter is a word only where it is listed as one
                times[example.language][token] += SEEN_BEGINNING if token.endswith("-") else SEEN
    names = tuple(sorted(listed, key=lambda name: (name in CYRILLIC, name not in FIRST, name)))
    of: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(names))
    for place, name in enumerate(names):
        for token in times[name].keys() | listed[name].keys():
            most = max(min(times[name].get(token, 0.0), LISTED), listed[name].get(token, 0.0))
            of[token][place] = math.log1p(most)
    return Evidence(names, dict(of))


def _is_word(token: str) -> bool:
    """Symbols and numbers are every language's."""
    return token.removesuffix("-").isalpha()


def _listed(line: str) -> Iterator[tuple[str, float]]:
    for word in line.split():
        for token in tokens(word):
            yield token, LISTED_BEGINNING if token.endswith("-") else LISTED
        plain = _plain(word)
        if plain != word and len(word) >= LEAST_PLAIN:
            for token in tokens(plain):
                yield token, LISTED_BEGINNING if token.endswith("-") else LISTED_PLAIN


def _plain(word: str) -> str:
    parted = unicodedata.normalize("NFD", word)
    return "".join(each for each in parted if not unicodedata.combining(each)).translate(_PLAIN_LETTERS)
