"""Log lines as they travel: clean text, cut to size, encoded once."""

from datetime import UTC, datetime
from typing import Literal

import orjson

MAX_TEXT = 20_000
Stream = Literal["stdout", "stderr", "log"]


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Text that JSON and Postgres take: no NUL, no lone surrogate, no more than `limit` characters."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def without_nul(document: bytes) -> bytes:
    return document.replace(b"\\u0000", b"\\ufffd") if b"\\u0000" in document else document


def now() -> str:
    return datetime.now(UTC).isoformat()


def line(stream: Stream, text: str) -> bytes:
    return orjson.dumps({"at": now(), "stream": stream, "text": clean(text)})


class LineSplitter:
    """Turns what a process prints into lines; of a line rewritten with carriage returns the last state counts."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_TEXT:
            whole.append(self._rest)
            self._rest = b""
        return [self._encoded(one) for one in whole]

    def finish(self) -> list[bytes]:
        rest, self._rest = self._rest, b""
        return [self._encoded(rest)] if rest else []

    def _encoded(self, raw: bytes) -> bytes:
        shown = raw.rstrip(b"\r").rpartition(b"\r")[2]
        return line(self._stream, shown.decode("utf-8", "replace"))
