"""Rows written as JSON: one a line, or as a list."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from analyzer_service.reading.row import BOM, DEEPEST, LONGEST_ROW, Fault, Row, Unreadable, too_long

_READ = 2**20
_SPACE = re.compile(r"[ \t\r\n]*")
_KEY_END = re.compile(rb'(?<!\\)"[ \t\r\n]*:')


def lines(file: BinaryIO, skip: int) -> Iterator[Row]:
    number = 0
    while raw := file.readline(LONGEST_ROW):
        number += 1
        whole = len(raw) < LONGEST_ROW or raw.endswith(b"\n")
        if not whole:
            while (rest := file.readline(LONGEST_ROW)) and not rest.endswith(b"\n"):
                pass
        if number == 1:
            raw = raw.removeprefix(BOM)
        if not raw.strip():
            continue
        if skip:
            skip -= 1
        elif whole:
            yield _parsed(number, raw)
        else:
            yield Row(number, None, too_long())


def _parsed(line: int, raw: bytes) -> Row:
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return Row(line, None, _not_json(raw, error))
    fault = _structure_fault(raw, content)
    return Row(line, content if fault is None else None, fault)


def _not_json(raw: bytes, error: orjson.JSONDecodeError) -> Fault:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as broken:
        return Fault("not_utf8", f"Byte {broken.start + 1} of the row is not UTF-8.")
    return Fault("invalid_json", f"The row is not valid JSON: {error.msg} at column {error.colno}.")


def _structure_fault(raw: bytes, content: Any) -> Fault | None:
    """What parsing hides: of two fields with one name only the last is left."""
    fields, level = 0, [content]
    for _ in range(DEEPEST):
        below = []
        for value in level:
            if type(value) is dict:
                fields += len(value)
                below += [item for item in value.values() if type(item) is dict or type(item) is list]
            elif type(value) is list:
                below += [item for item in value if type(item) is dict or type(item) is list]
        if not below:
            break
        level = below
    else:
        return Fault("nested_too_deeply", f"The row is nested deeper than {DEEPEST} levels.")
    if raw.count(b'":') - raw.count(b'\\":') == fields or len(_KEY_END.findall(raw)) == fields:
        return None
    return _repeated_field(raw)


def _repeated_field(raw: bytes) -> Fault | None:
    repeated: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        repeated.extend(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)

    json.loads(raw, object_pairs_hook=look, parse_int=float)
    return Fault("duplicate_field", f"The field `{repeated[0][:100]}` occurs twice.") if repeated else None


def array(file: BinaryIO, skip: int) -> Iterator[Row]:
    """The rows of a list one at a time; an object that stands alone is one row."""
    text = _Window(file)
    first = text.next_character()
    if not first:
        return
    number = 0
    if first != "[":
        raw = text.value(1)
        if first != "{":
            raise Unreadable("not_a_list", "A JSON data set is a list of rows: [{...}, {...}].")
        if not skip:
            yield _parsed(1, raw)
        text.expect_end(1)
        return
    text.pass_character()
    if text.next_character() == "]":
        text.pass_character()
        text.expect_end(1)
        return
    while True:
        number += 1
        raw = text.value(number)
        if number > skip:
            yield _parsed(number, raw)
        after = text.next_character()
        if after not in {",", "]"}:
            raise text.broken(number + 1, f"expected ',' or ']' after row {number}" if after else "the list has no end")
        text.pass_character()
        if after == "]":
            text.expect_end(number)
            return


class _Window:
    """The part of the file's text that holds the present row; bytes that are not UTF-8 stay as surrogates."""

    _decoder = json.JSONDecoder(parse_int=float)

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._text = ""
        self._at = 0
        self._lines_before = 0
        self._ended = False
        self._more(_READ)
        self._text = self._text.removeprefix("\ufeff")

    def _more(self, size: int) -> None:
        raw = self._file.read(size)
        self._ended = not raw
        self._lines_before += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + self._decode(raw, self._ended)
        self._at = 0

    def next_character(self) -> str:
        """The next one that is not white space, without passing it; nothing at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more(_READ)

    def pass_character(self) -> None:
        self._at += 1

    def value(self, number: int) -> bytes:
        """The bytes of the next value. The window grows while the value seems to be cut off by the window's end."""
        self.next_character()
        while True:
            reason, place = "", self._at
            try:
                _, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                reason, place = error.msg, error.pos
            except RecursionError:
                message = f"Row {number} is nested too deeply to be read."
                raise Unreadable("nested_too_deeply", message, number) from None
            else:
                if end < len(self._text) or self._ended:
                    raw = self._text[self._at : end].encode("utf-8", "surrogateescape")
                    self._at = end
                    return raw
            held = len(self._text) - self._at
            if self._ended:
                self._at = place
                raise self.broken(number, reason if self._at < len(self._text) else "the file ends in the middle")
            if held >= LONGEST_ROW:
                raise Unreadable(
                    "invalid_json",
                    f"Row {number} has no end within {LONGEST_ROW // 2**20} MiB: {reason or 'too long'}.",
                    number,
                )
            self._more(max(_READ, min(held, LONGEST_ROW)))

    def expect_end(self, rows: int) -> None:
        if self.next_character():
            raise self.broken(rows + 1, "something follows after the end")

    def broken(self, number: int, reason: str) -> Unreadable:
        before = self._text[: self._at]
        line = self._lines_before + before.count("\n") + 1
        message = f"The file is not valid JSON in line {line} (row {number}): {reason}."
        return Unreadable("invalid_json", message, number)
