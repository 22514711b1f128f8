"""JSON text as Postgres can keep it."""

import re

_SURROGATE = rb"[dD][89a-fA-F][0-9a-fA-F]{2}"
_PAIR = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPED = re.compile(rb"\\(?:" + _PAIR + rb"|u(0000|" + _SURROGATE + rb")|.)", re.DOTALL)
_SUSPECTS = (rb"\u0000", rb"\ud", rb"\uD")


def mended(content: bytes) -> bytes:
    """NUL characters and halves of surrogate pairs become replacement characters. Bytes are looked through for them
    quickly; the slow search is for content that may have some."""
    if rb"\u" not in content or not any(suspect in content for suspect in _SUSPECTS):
        return content
    return _ESCAPED.sub(lambda found: rb"\ufffd" if found[1] else found[0], content)


def holds_nul(content: bytes) -> bool:
    return rb"\u0000" in content and any(found[1] == b"0000" for found in _ESCAPED.finditer(content))
