"""What a body will take in memory when it is parsed, told from its bytes: of short texts, names and objects many times
their own."""

import asyncio
import re

import numpy as np
import numpy.typing as npt

from inference_service.gateway.errors import Refusal

MOST_PARTS_BYTES = 48 * 2**20
"""Parsing stops every other request: so many parts take about as long as the longest text."""

_COMMA, _LIST, _OBJECT, _COLON, _QUOTE = b',[{:"'
_EACH = {_COMMA: 40, _LIST: 80, _OBJECT: 80, _COLON: 110, _QUOTE: 16}
"""Bytes: a number and its place; an empty list or object; a name's place; half of what a text takes beside itself."""
_AT_ONCE = 2**20
_BEYOND_LATIN, _BEYOND_TWO_BYTES = 0xC4, 0xF0
_PAIRED = re.compile(rb"\\u[dD][89abAB]")

Bytes = npt.NDArray[np.uint8]


async def parsed_bytes(body: bytes) -> int:
    """Raises Refusal where its parts are too many. What looks like parts is counted within texts too, unless it is too
    much: then it takes the time to look more closely, beside the requests that run."""
    parts = sum(_weight(some) for some in in_pieces(body))
    if parts > MOST_PARTS_BYTES:
        parts = await asyncio.to_thread(_parts_around_texts, body)
        if parts > MOST_PARTS_BYTES:
            message = (
                "The body has too many texts, numbers, lists and objects to be held in memory: send them in several"
                " requests."
            )
            raise Refusal(413, message, code="body_too_complex")
    size = parts + _texts(body)
    if len(body) > _AT_ONCE:
        await asyncio.sleep(0)  # others may run before it is parsed
    return size


def in_pieces(body: bytes) -> list[Bytes]:
    """Small enough to be looked through without much beside them."""
    whole = np.frombuffer(body, np.uint8)
    return [whole[start : start + _AT_ONCE] for start in range(0, len(whole), _AT_ONCE)]


def _weight(some: Bytes) -> int:
    return sum(each * int(np.count_nonzero(some == mark)) for mark, each in _EACH.items())


def _parts_around_texts(body: bytes) -> int:
    """Looks no further than where it is too much."""
    parts, start, within = 0, 0, False
    while start < len(body) and parts <= MOST_PARTS_BYTES:
        piece = body[start : start + _AT_ONCE]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = body[start : start + _AT_ONCE + 1]
        start += len(piece)
        some = np.frombuffer(piece.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
        quotes = some == _QUOTE
        texts = (np.cumsum(quotes, dtype=np.uint8) & 1 != 0) ^ within
        parts += _weight(some * (quotes | ~texts))
        within = bool(texts[-1]) if len(texts) else within
    return parts


def _texts(body: bytes) -> int:
    """Each character takes as much as the widest."""
    count, width = len(body), 1
    if not body.isascii():
        pieces = in_pieces(body)
        count = sum(int(np.count_nonzero(some.view(np.int8) >= np.int8(-64))) for some in pieces)
        widest = max(int(some.max()) for some in pieces)
        width = 1 if widest < _BEYOND_LATIN else 2 if widest < _BEYOND_TWO_BYTES else 4
    if width < 4 and b"\\u" in body:
        width = 4 if _PAIRED.search(body) else 2
    return count * width
