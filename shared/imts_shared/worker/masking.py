"""Keeps an attempt's secrets out of what it says: a library may print the headers that it sent."""

from collections.abc import Iterable
from typing import Any

import orjson

SHORTEST = 8
"""Shorter words are found everywhere by chance."""
SHOWN = "***"
_SAID = ("text", "data", "message", "hint", "result")


class Mask:
    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """A header's value such as `Bearer abc...` is hidden whole and by its parts."""
        words = {word for secret in secrets for word in (secret, *secret.split()) if len(word) >= SHORTEST}
        self._words = sorted(words, key=len, reverse=True)
        self._encoded = [orjson.dumps(word)[1:-1] for word in self._words]

    def __call__(self, document: bytes) -> bytes:
        """The JSON of a line, an event or an outcome, hidden in what it says and whole in what it is."""
        if not any(word in document for word in self._encoded):
            return document
        said = orjson.loads(document)
        return orjson.dumps({name: self._hidden(value) if name in _SAID else value for name, value in said.items()})

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            for word in self._words:
                value = value.replace(word, SHOWN)
            return value
        if isinstance(value, dict):
            return {name: self._hidden(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._hidden(one) for one in value]
        return value
