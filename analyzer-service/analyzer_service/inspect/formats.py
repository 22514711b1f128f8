"""Recognising a data set's format by the fields of its rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from imts_shared.contracts.datasets import DatasetFormat

F = DatasetFormat


def format_of(row: Mapping[str, Any]) -> DatasetFormat:
    """The format that one row looks like."""
    if "chosen" in row or "rejected" in row:
        return F.preference
    if "kto_tag" in row or ("label" in row and _has(row, "completion", "messages", "conversations", "output")):
        return F.kto
    if "messages" in row:
        return F.messages
    if "conversations" in row:
        return F.sharegpt
    if "instruction" in row or ("output" in row and "input" in row):
        return F.alpaca
    if "text" in row:
        return F.text
    return F.unknown


def _has(row: Mapping[str, Any], *names: str) -> bool:
    return any(name in row for name in names)


def recognise(rows: Sequence[Any]) -> DatasetFormat:
    """What most of the first rows look like."""
    votes = Counter(format_of(row) for row in rows if isinstance(row, Mapping))
    del votes[F.unknown]
    return votes.most_common(1)[0][0] if votes else F.unknown
