"""Five ways to say how good a completion's function calls are, each between 0 and 1.

A call counts for an expected one only when it names the same function. Calls too many and calls missing both lower a
score. Where no call is expected, making none (nor beginning one) is worth 1 and everything else 0.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training_service.rewards.calls import Call, Reading, read_calls
from training_service.rewards.tools import accepts, read_tools

NEARLY = 0.5
LONGEST_COMPARED_LENIENTLY = 1024


def format_reward(completion: str, expected: Sequence[Call], tools: Any = None) -> float:
    """The share of the calls begun that can be read."""
    made = read_calls(completion)
    if not expected:
        return _silence(made)
    return _share(len(made.calls), len(made.calls) + made.broken)


def name_reward(completion: str, expected: Sequence[Call], tools: Any = None) -> float:
    """F1 over the functions named, in whatever order."""
    made = read_calls(completion)
    if not expected:
        return _silence(made)
    named, wanted = Counter(call.name for call in made.calls), Counter(call.name for call in expected)
    return _share(2 * (named & wanted).total(), named.total() + wanted.total())


def argument_keys_reward(completion: str, expected: Sequence[Call], tools: Any = None) -> float:
    """F1 over the argument names, each call beside the expected one it fits best."""
    made = read_calls(completion)
    return _paired(made.calls, expected, _same_keys) if expected else _silence(made)


def argument_values_reward(completion: str, expected: Sequence[Call], tools: Any = None) -> float:
    """F1 over arguments with their values; what differs in case, spacing or 5 for "5" alone counts half."""
    made = read_calls(completion)
    return _paired(made.calls, expected, likeness) if expected else _silence(made)


def schema_reward(completion: str, expected: Sequence[Call], tools: Any = None) -> float:
    """The share of the calls begun that could be carried out: an offered function, arguments its schema takes."""
    made = read_calls(completion)
    if not expected:
        return _silence(made)
    offered = read_tools(tools)
    fit = sum(accepts(offered, call.name, call.arguments) for call in made.calls)
    return _share(fit, len(made.calls) + made.broken)


Scorer = Callable[[str, Sequence[Call], Any], float]
SCORERS: dict[str, Scorer] = {
    "format": format_reward,
    "name": name_reward,
    "arg_keys": argument_keys_reward,
    "arg_values": argument_values_reward,
    "schema": schema_reward,
}


def likeness(one: Any, other: Any) -> float:
    """How alike two JSON values are: part by part where they have parts. 1 is 1.0, null is as good as absent."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        one, other = _present(one), _present(other)
        if not one and not other:
            return 1.0
        alike = sum(likeness(one[key], other[key]) for key in one.keys() & other.keys())
        return 2 * alike / (len(one) + len(other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if not one and not other:
            return 1.0
        alike = sum(map(likeness, one, other))
        return 2 * alike / (len(one) + len(other))
    if isinstance(one, Mapping | list | tuple) or isinstance(other, Mapping | list | tuple):
        return 0.0
    if one == other and isinstance(one, bool) == isinstance(other, bool):
        return 1.0
    return NEARLY if _plain(one) == _plain(other) else 0.0


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).casefold()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = value if isinstance(value, str) else repr(value)
    if len(text) > LONGEST_COMPARED_LENIENTLY:
        return text
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _same_keys(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    made, wanted = _present(made), _present(wanted)
    if not made and not wanted:
        return 1.0
    return 2 * len(made.keys() & wanted.keys()) / (len(made) + len(wanted))


def _paired(
    made: Sequence[Call], wanted: Sequence[Call], score: Callable[[Mapping[str, Any], Mapping[str, Any]], float]
) -> float:
    pairs = sorted(
        (
            (-score(call.arguments, right.arguments), left, across)
            for left, call in enumerate(made)
            for across, right in enumerate(wanted)
            if call.name == right.name
        ),
    )
    lefts: set[int] = set()
    acrosses: set[int] = set()
    total = 0.0
    for negative, left, across in pairs:
        if left not in lefts and across not in acrosses:
            lefts.add(left)
            acrosses.add(across)
            total -= negative
    return _share(2 * total, len(made) + len(wanted))


def _present(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in arguments.items() if value is not None}


def _silence(made: Reading) -> float:
    return 0.0 if made.calls or made.broken else 1.0


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole else 0.0
