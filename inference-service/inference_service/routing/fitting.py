"""How well the tools that a request brings fit what it asks.

Models differ in what they do when none fits: one calls a tool all the same, another says so in words. What the request
and its tools have in common tells beforehand which of the two is wanted."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple

from inference_service.routing.examples import common_words

TOOLS_READ: Final = 32
NAME_READ: Final = 80
DESCRIPTION_READ: Final = 160
TOOLS_KEPT: Final = 512
"""Those of the newest requests: the same ones come again and again."""
_WORDS: Final = re.compile(r"[A-Z]?[^\W\d_A-Z]{2,}|[A-Z]{3,}")
_LEAST: Final = 3
_STEM: Final = 5
_COMMON: Final = frozenset(word[:_STEM] for line in common_words().values() for word in line.split())


class _Tool(NamedTuple):
    name: frozenset[str]
    words: frozenset[str]


def fit(piece: str, tools: list[Any]) -> float:
    """Of the tool that fits best: the share of the text's words that are its own, and half the share of its name's
    words that are in the text. 0.0: none has a word in common with it."""
    asked = _words(piece)
    if not asked:
        return 0.0
    best = 0.0
    for each in islice(tools, TOOLS_READ):
        tool = _read(each)
        if tool is not None and not asked.isdisjoint(tool.words):
            named = len(tool.name & asked) / len(tool.name) if tool.name else 0.0
            best = max(best, len(tool.words & asked) / len(asked) + named / 2)
    return best


def _read(tool: Any) -> _Tool | None:
    if not isinstance(tool, Mapping):
        return None
    inner = tool.get("function")
    told = inner if isinstance(inner, Mapping) else tool
    name, description = told.get("name"), told.get("description")
    return _tool(
        name[:NAME_READ] if isinstance(name, str) else "",
        description[:DESCRIPTION_READ] if isinstance(description, str) else "",
    )


@lru_cache(TOOLS_KEPT)
def _tool(name: str, description: str) -> _Tool:
    named = _words(name)
    return _Tool(named, named | _words(description))


def _words(text: str) -> frozenset[str]:
    """By their beginnings, so that other forms of a word are the same; names of functions are taken apart."""
    found = {word[:_STEM].lower() for word in _WORDS.findall(text) if len(word) >= _LEAST}
    return frozenset(found - _COMMON)
