"""Server-sent events: bytes in, messages out."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    id: str | None
    event: str
    data: str


class Parser:
    """A message is whole only at its blank line: what a break cuts off is dropped and comes again.

    Lines end at a newline alone. Splitting text as Python does would also cut at U+2028 and its like, which JSON
    may hold as they are.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._clear()

    def _clear(self) -> None:
        self._id: str | None = None
        self._event = "message"
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Message]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            message = self._line(line.removesuffix(b"\r").decode(errors="replace"))
            if message is not None:
                yield message

    def _line(self, line: str) -> Message | None:
        if not line:
            message = Message(self._id, self._event, "\n".join(self._data)) if self._data else None
            self._clear()
            return message
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            self._id = value
        return None
