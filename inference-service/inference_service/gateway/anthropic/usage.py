from dataclasses import dataclass
from typing import Any

from inference_service.gateway.anthropic.failures import Garbage

MOST_TOKENS = 2**40
"""More than any answer takes: a provider that says so is not to be believed."""


@dataclass(slots=True)
class Usage:
    """As Anthropic counts and prices: `input` is what neither came from its cache nor went there."""

    input: int = 0
    cache_read: int = 0
    cache_written: int = 0
    output: int = 0
    reasoning: int | None = None
    """Those of `output` that were spent on thinking, where Anthropic says so."""

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_written

    def take(self, told: object) -> None:
        """Counts are sums so far, and those that are left out stand as they are."""
        if told is None:
            return
        if not isinstance(told, dict):
            raise Garbage("usage is no object")
        self.input = _count(told, "input_tokens", self.input)
        self.cache_read = _count(told, "cache_read_input_tokens", self.cache_read)
        self.cache_written = _count(told, "cache_creation_input_tokens", self.cache_written)
        self.output = _count(told, "output_tokens", self.output)
        details = told.get("output_tokens_details")
        if isinstance(details, dict) and details.get("thinking_tokens") is not None:
            self.reasoning = _count(details, "thinking_tokens", 0)

    def as_openai(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.output,
            "total_tokens": self.prompt + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cache_read, "cache_write_tokens": self.cache_written},
            **({} if self.reasoning is None else {"completion_tokens_details": {"reasoning_tokens": self.reasoning}}),
        }


def _count(told: dict[str, Any], name: str, so_far: int) -> int:
    count = told.get(name)
    if count is None:
        return so_far
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST_TOKENS:
        raise Garbage(f"usage.{name} is no count")
    return count
