"""A body that must say something else in one field is changed there, and is byte for byte the caller's elsewhere."""

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson

from inference_service.gateway.errors import Refusal
from inference_service.gateway.holding import SMALL_BYTES
from inference_service.gateway.weighing import in_pieces

_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_NO_MARKS = bytes(set(range(256)) - set(b'"{}[]'))


def _member(name: str, value: str) -> Callable[[bytes], list[re.Match[bytes]]]:
    """Where it stands, however JSON spells its name. A quote after a backslash is within a string."""
    escaped = "".join(f"(?:{one}|\\\\u(?i:{ord(one):04x}))" for one in name)
    usual = re.compile(rf'"{name}"(?<!\\"{name}")\s*+:\s*+(?:{value})'.encode())
    odd = re.compile(rf'(?<!\\)"{escaped}"\s*+:\s*+(?:{value})'.encode())
    return lambda body: list((odd if _ESCAPED_LETTER.search(body) else usual).finditer(body))


_models = _member("model", _STRING)
_options = _member("stream_options", rf'null|true|false|{_STRING}|\{{(?:[^"{{}}\[\]]++|{_STRING})*+\}}')
_USAGE = b'{"stream_options":{"include_usage":true},'
_PICTURE = re.compile(rb"data:[\w/+.-]{1,60};base64,[A-Za-z0-9+/=_-]*")
_PICTURE_URL = re.compile(rb'"image_url"\s*:')
PICTURE_TOKENS = 1_000
MOST_ANSWERS = 10_000
_BOUNDS_OF_CHAT = ("max_completion_tokens", "max_tokens")
_BOUNDS = {"/v1/completions": ("max_tokens",), "/v1/responses": ("max_output_tokens",)}
_NO_BOUND = 10**7
_DIGITS = b"0123456789"
_AFFINITY_LEAST = 500
_AFFINITY_MOST = 4_000
"""Characters: a shorter beginning is computed anew as quickly as it is found, and a longer one tells no more."""


def with_model(body: bytes, content: dict[str, Any], model: str) -> bytes:
    if content.get("model") == model:
        return body
    found = _models(body)
    if len(found) > 1:
        found = _outermost(found, body)
    return _with(body, content, "model", model, found)


def with_usage(body: bytes, content: dict[str, Any]) -> bytes:
    """Asks for a stream's usage where the caller does not."""
    if asks_usage(content):
        return body
    if "stream_options" not in content:
        return _USAGE + body.lstrip()[1:]
    options = content.get("stream_options")
    asked = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return _with(body, content, "stream_options", asked, _outermost(_options(body), body))


def _with(body: bytes, content: dict[str, Any], name: str, value: Any, found: Sequence[re.Match[bytes]]) -> bytes:
    """`found`: where the name and its value stand. If it is not to be found just once, all is written anew."""
    try:
        if len(found) == 1:
            [one] = found
            return b'%b"%b":%b%b' % (body[: one.start()], name.encode(), orjson.dumps(value), body[one.end() :])
        return orjson.dumps({**content, name: value})
    except orjson.JSONEncodeError:
        raise Refusal(400, "The body is nested too deeply: use fewer levels.", code="invalid_json") from None


def _outermost(found: Sequence[re.Match[bytes]], body: bytes) -> list[re.Match[bytes]]:
    """Those that belong to the body itself, and to nothing within it."""
    at, depth, outermost = 0, 0, []
    for one in found:
        between = body[at : one.start()].replace(b"\\\\", b"").replace(b'\\"', b"")
        marks = b"".join(between.translate(None, _NO_MARKS).split(b'"')[::2])
        depth += marks.count(b"{") + marks.count(b"[") - marks.count(b"}") - marks.count(b"]")
        at = one.end()
        if depth == 1:
            outermost.append(one)
    return outermost


def asks_usage(content: dict[str, Any]) -> bool:
    options = content.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def affinity(content: dict[str, Any]) -> int | None:
    """Of what begins a conversation, so that its next turn finds the engine that has computed it already."""
    messages = content.get("messages")
    if not isinstance(messages, list):
        messages = content.get("input")
    if isinstance(messages, list):
        beginning = "".join(_text(message)[:_AFFINITY_MOST] for message in _opening(messages))
    else:
        prompt = messages if isinstance(messages, str) else content.get("prompt")
        beginning = prompt if isinstance(prompt, str) else ""
    if len(beginning) < _AFFINITY_LEAST:
        return None
    return zlib.crc32(beginning[:_AFFINITY_MOST].encode(errors="surrogatepass"))


def _opening(messages: list[Any]) -> list[Any]:
    """What stands before the first answer, and so stays the same with each turn; where that is short, the first turns
    of a conversation that has some already."""
    for place, message in enumerate(messages[:3]):
        if isinstance(message, dict) and message.get("role") == "user":
            opening = messages[: place + 1]
            if len(messages) > place + 4 and sum(len(_text(one)) for one in opening) < _AFFINITY_LEAST:
                return messages[: place + 5]
            return opening
    return messages[:1]


def _text(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def guessed_tokens(path: str, body: bytes, content: dict[str, Any]) -> tuple[int, int]:
    """Of the prompt, and of one answer as far as the caller bounds it: 0 where it does not. Of two bounds the larger
    counts, as nobody here knows which of them the upstream takes."""
    most = max([_number(content.get(name)) for name in _BOUNDS.get(path, _BOUNDS_OF_CHAT)])
    return guessed_prompt(body), most if most < _NO_BOUND else 0


def guessed_prompt(body: bytes) -> int:
    """Three bytes a token, but each digit may be one; a picture costs what pictures do, not its bytes."""
    text, pictures = _PICTURE.subn(b"", body) if b";base64," in body else (body, 0)
    if b'"image_url"' in text:
        pictures = max(pictures, len(_PICTURE_URL.findall(text)))
    size, digits = len(text), _digits(text)
    return max(size // 3, (size - digits) // 4 + digits) + 1 + PICTURE_TOKENS * pictures


def _digits(text: bytes) -> int:
    if len(text) <= SMALL_BYTES:
        return len(text) - len(text.translate(None, _DIGITS))
    return sum(int(np.count_nonzero(some - np.uint8(_DIGITS[0]) < len(_DIGITS))) for some in in_pieces(text))


def answers_asked(content: dict[str, Any]) -> int:
    prompts = content.get("prompt")
    several = len(prompts) if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int) else 1
    return several * min(max(1, _number(content.get("n")), _number(content.get("best_of"))), MOST_ANSWERS)


def _number(value: Any) -> int:
    """As upstreams read it that take "10" and 10.0 for 10; 0 for what is none."""
    if isinstance(value, int):
        return max(0, value)
    if not isinstance(value, float | str) or len(str(value)) > 20:
        return 0
    try:
        return max(0, int(float(value)))
    except (ValueError, OverflowError):
        return 0
