"""What a request asks, whatever its kind: the text that matters, how much there is of it, its tools.

The body is the caller's own: nothing about it is taken for granted, and no more than a bounded part is looked at."""

from itertools import islice
from typing import Any, Final, NamedTuple

MESSAGES_READ: Final = 64
PARTS_READ: Final = 32
SHORT: Final = 40
"""A shorter last message ("and in winter?") is read together with the one before it."""


class Asked(NamedTuple):
    text: str
    characters: int
    tools: list[Any]
    structured: bool


def asked(content: Any) -> Asked:
    if not isinstance(content, dict):
        return Asked(
            content if isinstance(content, str) else "", len(content) if isinstance(content, str) else 0, [], False
        )
    text, characters = "", 0
    for name in ("messages", "input", "prompt", "query"):
        if (value := content.get(name)) is not None:
            text, characters = _of_turns(value) if isinstance(value, list) else _of_part(value)
            break
    tools = content.get("tools") or content.get("functions")
    form = content.get("response_format") or content.get("text")
    return Asked(text, characters, tools if isinstance(tools, list) else [], _is_structured(form))


def _of_turns(turns: list[Any]) -> tuple[str, int]:
    """The last thing that the user says; a list may also hold plain texts."""
    said: list[str] = []
    characters = read = 0
    for turn in islice(reversed(turns), MESSAGES_READ):
        read += 1
        text, size = _of_turn(turn)
        characters += size
        if text and len(said) < 2 and _is_users(turn) and (not said or len(said[0]) < SHORT):
            said.append(text)
    if read < len(turns):
        characters = characters * len(turns) // read
    return "\n".join(reversed(said)), characters


def _is_users(turn: Any) -> bool:
    return not isinstance(turn, dict) or turn.get("role", "user") == "user"


def _of_turn(turn: Any) -> tuple[str, int]:
    inner = turn.get("content") if isinstance(turn, dict) else None
    if isinstance(inner, str):
        return inner, len(inner)
    if isinstance(inner, list):
        parts = [_of_part(part) for part in inner[:PARTS_READ]]
        return " ".join([text for text, _ in parts if text]), sum([size for _, size in parts])
    return _of_part(turn)


def _of_part(part: Any) -> tuple[str, int]:
    if isinstance(part, dict):
        part = part.get("text")
    return (part, len(part)) if isinstance(part, str) else ("", 0)


def _is_structured(form: Any) -> bool:
    if not isinstance(form, dict):
        return False
    kind = form.get("type")
    if kind is None and isinstance(form.get("format"), dict):
        kind = form["format"].get("type")
    return kind in ("json_object", "json_schema")
