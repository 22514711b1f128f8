"""Exact duplicates among any number of rows: 16 bytes a row, on disk once there are many."""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

KEPT_IN_MEMORY = 250_000
PARTS = 256
EXAMPLES = 20
LINES_AN_EXAMPLE = 10

_RECORD = struct.Struct("<QQ")


def fingerprint(row: bytes) -> int:
    """64 bits: among a hundred million different rows, two look alike once in four thousand data sets."""
    return int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "little")


class Duplicates:
    """Remembers every row's fingerprint and line; parts of equal fingerprints are counted one after another."""

    def __init__(self, folder: Path, kept_in_memory: int = KEPT_IN_MEMORY) -> None:
        self._folder = folder
        self._keep = kept_in_memory
        self._rows: list[tuple[int, int]] = []
        self._parts: list[BinaryIO] = []

    def add(self, row: bytes, line: int) -> None:
        self._rows.append((fingerprint(row), line))
        if len(self._rows) >= self._keep:
            self._spill()

    def summary(self) -> dict[str, object]:
        """Groups of equal rows, how many rows are more than one of their group, and the first groups."""
        groups = 0
        surplus = 0
        examples: list[tuple[int, list[int]]] = []
        for part in self._all_parts():
            by_print: dict[int, int | list[int]] = {}
            for print_, line in part:
                known = by_print.get(print_)
                if known is None:
                    by_print[print_] = line
                elif isinstance(known, int):
                    by_print[print_] = [2, known, line]
                else:
                    known[0] += 1
                    if len(known) <= LINES_AN_EXAMPLE:
                        known.append(line)
            found = [one for one in by_print.values() if not isinstance(one, int)]
            groups += len(found)
            surplus += sum(one[0] - 1 for one in found)
            examples += [(one[0], one[1:]) for one in found]
            examples = sorted(examples, key=lambda one: one[1][0])[:EXAMPLES]
        return {
            "groups": groups,
            "rows": surplus,
            "examples": [{"count": count, "lines": lines} for count, lines in examples],
        }

    def _spill(self) -> None:
        if not self._parts:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._parts = [(self._folder / f"{number:03}").open("w+b") for number in range(PARTS)]
        for print_, line in self._rows:
            self._parts[print_ % PARTS].write(_RECORD.pack(print_, line))
        self._rows.clear()

    def _all_parts(self) -> Iterator[Iterator[tuple[int, int]]]:
        if not self._parts:
            yield iter(self._rows)
            return
        self._spill()
        for part in self._parts:
            part.seek(0)
            yield _RECORD.iter_unpack(part.read())
            part.close()
