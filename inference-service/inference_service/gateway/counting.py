"""Tokens as an upstream tells them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

BYTES_A_TOKEN = 4
"""Of an answer that tells nothing."""
MOST_TOKENS = 10**8
"""More than any answer takes: an upstream that says so is not believed, and what passed is counted."""


SEPARATOR = re.compile(rb"\r?\n\r?\n")
"""Of events."""
_TEXTS = re.compile(
    rb'"(?:content|text|reasoning(?:_content)?|arguments|refusal)"\s*:\s*"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL
).findall


@dataclass(slots=True)
class Tokens:
    """`told`: by the upstream; else counted from what passed."""

    input: int = 0
    cached: int = 0
    output: int = 0
    told: bool = False


def tokens(usage: Any) -> Tokens | None:
    """Chat, completions and embeddings name them one way, responses another."""
    if not isinstance(usage, dict):
        return None
    given = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    made = _count(usage.get("completion_tokens", usage.get("output_tokens", 0)))
    if given is None or made is None:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Tokens(given, min(cached or 0, given), made, told=True)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


def text_bytes(events: bytes) -> int:
    """Of what chunks of a chat say, without parsing them; what one says twice, under several names, counts once. A
    character that is escaped has three bytes, as most of those have that are."""
    texts: list[bytes] = _TEXTS(events)
    if len(texts) == 1:
        return _said_by(texts)
    return sum([_said_by(set(_TEXTS(event))) for event in SEPARATOR.split(events)]) if texts else 0


def _said_by(texts: Iterable[bytes]) -> int:
    return sum([len(text) - 3 * text.count(b"\\u") for text in texts])
