"""The signs of a text that the classifier reads: its tokens, and its outward form."""

from bisect import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from inference_service.routing.text import is_hangul, looks_like_code, tokens

CODE: Final = "~looks like code"
_LENGTHS: Final = (6, 10, 16, 24, 40, 70, 120, 250)
"""In tokens of the classifier, so that languages compare."""


Lexicon = Mapping[str, str]
"""Tokens that are typical of one domain, and that domain."""


def lexicon(words_of: Iterable[tuple[str, str]]) -> Lexicon:
    """From domains and words; what several domains claim belongs to none."""
    found: dict[str, str] = {}
    claimed: set[str] = set()
    for domain, words in words_of:
        for token in {token for word in words.split() for token in _telling(word)}:
            if found.setdefault(token, domain) != domain:
                claimed.add(token)
    return {token: domain for token, domain in found.items() if token not in claimed}


def _telling(word: str) -> list[str]:
    """A long word tells by its beginning, so that its other forms do as well; a short one also with an s."""
    found = list(tokens(word))
    beginnings = [token for token in found if token.endswith("-")]
    if word.isalpha() and len(word) == 2 and is_hangul(word):
        return [word, f"{word}-"]
    return beginnings or [*found, f"{word}s"]


def signs(piece: str, known: Lexicon) -> list[str]:
    found = tokens(piece)
    hits = Counter(filter(None, map(known.get, found)))
    return [*found, *form(piece, found, hits.items())]


def form(piece: str, found: Collection[str], hits: Collection[tuple[str, int]]) -> list[str]:
    """Beside its tokens: its outward form, and of which domains so many of its words are typical."""
    told: list[str] = []
    for domain, times in hits:
        told.append(f"~{domain}")
        if times > 1:
            told.append(f"~{domain} again")
    if not hits:
        told.append("~none")
    told.append(f"~length {bisect(_LENGTHS, len(found))}")
    if "\n" in piece:
        told.append("~lines")
    if looks_like_code(piece, found):
        told.append(CODE)
    commas = piece.count(",") + piece.count("，") + piece.count("、") + piece.count(";")
    told.append(f"~parts {min(commas, 5)}")
    return told
