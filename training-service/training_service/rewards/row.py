"""What a reward of one's own is worked out from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from training_service.rewards.calls import Call
from training_service.rewards.function_calling import SCORERS


class RewardError(Exception):
    """A reward could not be worked out; the message is for the person whose job this is."""


class Row(NamedTuple):
    """One completion and what it is judged by."""

    completion: str
    prompt: str
    expected: str
    calls: Sequence[Call]
    tools: Any
    readable: bool = True


def score(name: str, row: Row) -> float:
    """One of the five; 0 for any completion where it cannot be told which calls the row expects."""
    return SCORERS[name](row.completion, row.calls, row.tools) if row.readable else 0.0
