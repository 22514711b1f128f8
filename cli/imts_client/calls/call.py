"""What a request is, apart from how it is sent."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

from imts_client.errors import UnexpectedAnswer
from imts_client.sse import Message
from imts_client.uploads import Upload

T = TypeVar("T")
Query = Mapping[str, Any]


def path(*parts: str) -> str:
    """The path of these parts under /api, each quoted: an id with a slash in it stays one part."""
    return "/api/" + "/".join(quote(part, safe="") or "%20" for part in parts)


def query(**given: Any) -> dict[str, Any]:
    """Only what is given, enums by value."""
    return {name: _plain(value) for name, value in given.items() if value not in (None, (), [])}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return getattr(value, "value", value)


def _model(answer: str) -> Any:
    module, _, name = answer.partition(".")
    place = "imts_client.answers" if module == "answers" else f"imts_shared.contracts.{module}"
    return getattr(importlib.import_module(place), name)


def _parsed(answer: str, document: Any) -> Any:
    from pydantic import ValidationError

    try:
        return _model(answer).model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise UnexpectedAnswer(f"This client does not understand the answer ({place}: {first['msg']}).") from error


@dataclass(frozen=True)
class Call(Generic[T]):
    """`answer` names the contract that the answer follows, `module.Class`, or one of `imts_client.answers`; '' where
    there is none.

    The name is looked up when an answer is parsed, so that a command which prints plain JSON loads no models.
    """

    method: str
    path: str
    answer: str = ""
    params: Query = field(default_factory=dict)
    json: Any = field(default=None, repr=False)
    form: Mapping[str, str] = field(default_factory=dict)
    upload: Upload | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    read_seconds: float = 30.0

    def parse(self, document: Any) -> T:
        return cast(T, _parsed(self.answer, document) if self.answer else None)

    @property
    def removes(self) -> bool:
        return self.method == "DELETE"


@dataclass(frozen=True)
class Listing(Generic[T]):
    """A list in pages; `page` names the contract of one page, `item` that of one item."""

    path: str
    page: str
    item: str
    params: Query = field(default_factory=dict)

    def call(self, cursor: str | None = None) -> "Call[Any]":
        params = {**self.params, "cursor": cursor} if cursor else self.params
        return Call("GET", self.path, self.page, params, repeatable=True)

    def parse(self, document: Any) -> T:
        return cast(T, _parsed(self.item, document))


@dataclass(frozen=True)
class Follow(Generic[T]):
    """A live stream that ends with `event: end`. Reattaching asks for what follows the last message seen."""

    path: str
    item: str
    params: Query = field(default_factory=dict)
    after: int = 0

    def call(self) -> "Call[Any]":
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.after)}
        return Call("GET", self.path, params=self.params, headers=headers, repeatable=True, read_seconds=45.0)

    def going_on_after(self, number: int) -> "Follow[T]":
        return replace(self, after=number)

    def number(self, message: Message) -> int | None:
        """The message's place in the stream; None for one that was seen before or is not numbered."""
        if message.id is None or not message.id.isdecimal() or int(message.id) <= self.after:
            return None
        return int(message.id)

    def parse(self, document: Any) -> T:
        return cast(T, _parsed(self.item, document))
