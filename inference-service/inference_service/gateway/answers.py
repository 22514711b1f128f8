"""What an upstream that speaks OpenAI's protocol answers: read as far as must be, to know its tokens and its end."""

import re
from collections.abc import Callable
from typing import Any

import orjson

from inference_service.gateway.counting import BYTES_A_TOKEN, SEPARATOR, Tokens, text_bytes, tokens

LARGEST_EVENT = 4 * 2**20
MOST_HELD = 2**20
_BEGINNINGS = (b"data:", b":", b"event:", b"id:", b"retry:")
_ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_HOLDS = {
    "/v1/chat/completions": "choices",
    "/v1/completions": "choices",
    "/v1/embeddings": "data",
    "/v1/responses": "output",
}
"""What an answer holds that does not even say what it is."""
_TAIL_USAGE = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')


class Garbled(Exception):
    """It is not what the protocol has there."""


def whole(body: bytes, path: str) -> tuple[bytes, Tokens | None]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Garbled(f"an answer that is not JSON ({error.msg})") from None
    if not isinstance(content, dict):
        raise Garbled("an answer that is no JSON object")
    if content.get("error") and "choices" not in content and "output" not in content:
        raise Garbled("an error under the status 200")
    holds = _HOLDS.get(path)
    if holds is not None and holds not in content and content.get("object") in (None, "error"):
        raise Garbled(f"an answer without {holds}")
    return body, tokens(content.get("usage"))


def in_passing(piece: bytes) -> Tokens | None:
    """Of an answer too large to be read whole: it tells its tokens near its beginning or its end."""
    found = _TAIL_USAGE.findall(piece)
    if not found:
        return None
    try:
        return tokens(orjson.loads(found[-1]))
    except orjson.JSONDecodeError:
        return None


class Stream:
    """Fed with what comes, gives back the events that are whole. `finished` only when the protocol's own end was seen:
    whatever else a connection does, it is no end."""

    __slots__ = ("_held", "_hide_usage", "_redacted", "_rest", "_size", "failed", "finished", "pieces", "told")

    def __init__(self, *, hide_usage: bool, redacted: Callable[[bytes], bytes] = bytes) -> None:
        """`redacted`: an event that tells an error, as the caller may see it."""
        self._hide_usage = hide_usage
        self._redacted = redacted
        self._rest = bytearray()
        self._held = bytearray()
        self._size = 0
        """Bytes of the text that passed."""
        self.finished = False
        self.failed = False
        """It said itself that something went wrong."""
        self.told: Tokens | None = None
        self.pieces = 0

    def feed(self, piece: bytes) -> bytes:
        """Comments before the first event are held until it: as long as the caller has seen nothing, another upstream
        can be asked."""
        told = self._whole_events(piece)
        if self.pieces or self.finished or self.failed:
            if self._held:
                told, self._held = bytes(self._held) + told, bytearray()
            return told
        self._held += told
        if len(self._held) > MOST_HELD:
            raise Garbled("nothing but comments")
        return b""

    def _whole_events(self, piece: bytes) -> bytes:
        data = self._with_rest(piece) if self._rest else piece
        end = len(data) if data.endswith(b"\n\n") else max(data.rfind(b"\n\n") + 2, data.rfind(b"\n\r\n") + 3)
        if end < 3:
            self._keep(data)
            return b""
        if end == len(data):
            block = data
        else:
            block = data[:end]
            self._rest += data[end:]
        if (
            self.pieces
            and block.startswith(b"data:")
            and b'"usage"' not in block
            and b"[DONE]" not in block
            and b'"error"' not in block
            and b"response." not in block
        ):
            self.pieces += block.count(b"\ndata:") + 1
            self._size += text_bytes(block)
            return block
        return self._events(block)

    def _with_rest(self, piece: bytes) -> bytes:
        """Nothing, as long as no event ends in it: what came before is not searched again with each piece."""
        rest, seam = self._rest, max(0, len(self._rest) - 2)
        self._keep(piece)
        if rest.find(b"\n\n", seam) < 0 and rest.find(b"\n\r\n", seam) < 0:
            return b""
        self._rest = bytearray()
        return bytes(rest)

    def _keep(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) > LARGEST_EVENT:
            raise Garbled("an event that does not end")

    def _events(self, block: bytes) -> bytes:
        kept: list[bytes] = []
        at = 0
        for separator in SEPARATOR.finditer(block):
            event, at, begun = block[at : separator.start()], separator.end(), at
            if self._event(event.lstrip(b"\r\n")):
                kept.append(self._redacted(block[begun:at]) if self.failed else block[begun:at])
        return b"".join(kept)

    def _event(self, event: bytes) -> bool:
        """Whether the caller is shown it."""
        if not event:
            return True
        if not event.startswith(_BEGINNINGS):
            raise Garbled("a stream of something else than events")
        data = b"".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
        if not data:
            return True
        if data == b"[DONE]":
            self.finished = True
            return True
        try:
            content = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise Garbled(f"an event that is not JSON ({error.msg})") from None
        if not isinstance(content, dict):
            raise Garbled("an event that is no JSON object")
        return self._content(content, data)

    def _content(self, content: dict[str, Any], data: bytes) -> bool:
        kind = content.get("type")
        if content.get("error") or kind == "error":
            self.failed = True
            return True
        if kind in _ENDS:
            self.finished = True
            self.failed = self.failed or kind == "response.failed"
            answer = content.get("response")
            self.told = tokens(answer.get("usage")) if isinstance(answer, dict) else None
        told = tokens(content.get("usage"))
        if told is not None:
            self.told = told
            if self._hide_usage and content.get("choices") == []:
                return False
        self.pieces += 1
        self._size += _delta_bytes(content) if _is_of_responses(kind) else text_bytes(data)
        return True

    def counted(self) -> Tokens:
        """An answer that broke off told nothing: what passed is counted, an event a token at least."""
        return self.told or Tokens(0, 0, max(self.pieces, self._size // BYTES_A_TOKEN))


def _is_of_responses(kind: object) -> bool:
    return isinstance(kind, str) and kind.startswith("response.")


def _delta_bytes(event: dict[str, Any]) -> int:
    """Other events than deltas say once more what is said already."""
    delta = event.get("delta")
    return len(delta.encode(errors="replace")) if isinstance(delta, str) else 0
