"""temperature, top_p and top_k.

Anthropic's default for each is not to narrow anything, which is what 1 (for top_k: none) asks for: that is said by
leaving the field out. It matters, as its newer models refuse these fields whatever they hold, and as none of its
models takes them while it thinks.
"""

import re
from typing import Any

from inference_service.gateway.anthropic.refusals import wrong

HOTTEST = 1.0
"""OpenAI's scale goes to 2. Anthropic's ends here, and what is hotter is taken as this."""
FIELDS = ("temperature", "top_p", "top_k")

_NAMED = re.compile(r"\b(" + "|".join(FIELDS) + r")\b")


def sampling(content: dict[str, Any], *, thinks: bool) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    temperature = _number(content, "temperature", 2)
    if temperature is not None and temperature < HOTTEST:
        chosen["temperature"] = temperature
    top_p = _number(content, "top_p", 1)
    if top_p is not None and top_p < 1:
        chosen["top_p"] = top_p
    top_k = content.get("top_k")
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool)):
        raise wrong("top_k", "must be a whole number")
    if top_k is not None and top_k > 0:
        chosen["top_k"] = top_k
    return {} if thinks else chosen


def relieved(asked: dict[str, Any], problem: str) -> dict[str, Any] | None:
    """What was asked, without the sampling that this model refused in its answer 400, `problem`; None if it refused
    something else. A model that takes one of temperature and top_p, but not both, keeps the temperature."""
    named = {field for field in _NAMED.findall(problem) if field in asked}
    if {"temperature", "top_p"} <= named:
        named.discard("temperature")
    return {field: value for field, value in asked.items() if field not in named} if named else None


def _number(content: dict[str, Any], name: str, most: int) -> float | int | None:
    given = content.get(name)
    if given is None:
        return None
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 <= given <= most:
        raise wrong(name, f"must be a number from 0 to {most}")
    return given
