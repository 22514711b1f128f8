"""What a caller wants of one model, and how it is said to an upstream and its answer understood."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from inference_service.gateway import bodies
from inference_service.gateway.counting import Tokens

CHAT = "/v1/chat/completions"
_MAKES_NOTHING = frozenset({"/v1/embeddings", "/v1/tokenize", "/v1/detokenize"})
"""Paths whose answers hold no tokens that a model made."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller wants of one model. `routed`: which one that is was not the caller's choice, so that what a model
    says against the request may be a matter of the model."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    content: dict[str, Any]
    stream: bool
    model: str
    identity: str
    routed: bool = False

    def of(self, model: str, body: bytes, content: dict[str, Any]) -> "Order":
        """The same of another model."""
        return Order(self.path, self.headers, body, content, self.stream, model, self.identity, self.routed)

    @property
    def answers(self) -> int:
        """How many it asks for that are made of tokens."""
        return 0 if self.path in _MAKES_NOTHING else bodies.answers_asked(self.content)

    @property
    def hears_usage(self) -> bool:
        """Its stream shall tell tokens, as the caller asked for it."""
        return bodies.asks_usage(self.content)


class Streamed(Protocol):
    @property
    def finished(self) -> bool: ...
    @property
    def failed(self) -> bool: ...
    @property
    def pieces(self) -> int: ...
    def feed(self, piece: bytes) -> bytes: ...
    def counted(self) -> Tokens: ...


@dataclass(frozen=True, slots=True)
class Speech:
    path: str
    headers: Mapping[str, str]
    body: bytes
    whole: Callable[[bytes], tuple[bytes, Tokens | None]]
    stream: Callable[[], Streamed]
    asks_usage: bool = False
    """For a stream, where the caller does not."""
    native: dict[str, Any] | None = None
    """The body, where it is another than OpenAI's."""
