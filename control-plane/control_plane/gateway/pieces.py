"""A part cut into pieces of its lists, so that others are served between two of them.

Only what gateways write is cut as text: their lists stand in one order, and the items of each begin alike. Such text
may stand within an item too. A cut there leaves pieces that are no JSON, which shows when they are read; a piece that
is JSON was cut where an item ends.
"""

from collections.abc import Iterator
from typing import Literal, get_args

Kind = Literal["used", "decisions", "feedback", "requests"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Piece = tuple[Kind, bytes]
"""Of which list, and a JSON list of items."""
PIECE_BYTES = 64 * 2**10
_NEXT: dict[Kind, bytes] = {
    "used": b'},{"day":',
    "decisions": b'},{"decisionId":',
    "feedback": b'},{"decisionId":',
    "requests": b'},{"requestId":',
}


def cut(body: bytes) -> tuple[bytes, list[Piece]] | None:
    """The JSON of the report without its lists, and their pieces. None: it is not written as gateways do."""
    opening = body.find(b',"used":[')
    if opening < 0 or not body.endswith(b"]}"):
        return None
    found: list[Piece] = []
    begin = opening + len(b',"used":[')
    for kind, following in zip(KINDS, (*KINDS[1:], None), strict=True):
        close = b"]}" if following is None else f'],"{following}":['.encode()
        end = len(body) - len(close) if following is None else body.find(close, begin)
        if end < begin:
            return None
        found += [(kind, piece) for piece in _pieces(body[begin:end], _NEXT[kind])]
        begin = end + len(close)
    return body[:opening] + b"}", found


def _pieces(items: bytes, between: bytes) -> Iterator[bytes]:
    begin = 0
    while len(items) - begin > PIECE_BYTES:
        end = items.find(between, begin + PIECE_BYTES)
        if end < 0:
            break
        yield b"[%b]" % items[begin : end + 1]
        begin = end + 2
    if begin < len(items):
        yield b"[%b]" % items[begin:]
