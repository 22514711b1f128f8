"""Takes out of what is kept of a request what would harm somebody if it were read: secrets and personal numbers.

Chinese and Japanese put no space between a word and a number, so what stands around one is asked for in ASCII alone:
`\\b` and `\\w` take their letters for a part of it.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from inference_service.gateway import confessions, personal_numbers

_DEEPEST = 30
_LONGEST_NAME = 100
_PARTS = re.compile(r"[\s_-]+|(?<=[a-z0-9])(?=[A-Z])")

_LETTER = r"A-Za-z0-9\u00c0-\u024f\u0370-\u052f"
_PRIVATE_KEY = r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
_SIGNED = r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{0,2048}"
_KEY = (
    r"(?<![A-Za-z0-9_])(?:(?:sk|pk|rk|hf|gh[opsur]|github_pat|glpat|xox[abps]|imts|gsk|npm|pypi|whsec)[-_]"
    r"|ya29\.|(?:AKIA|ASIA|AIza)[-_]?)[A-Za-z0-9_-]{16,4096}"
)
_AUTHORIZATION = r"(?i)(?<![A-Za-z0-9_])(?P<scheme>bearer|basic)\s{1,8}(?P<value>[A-Za-z0-9._~+/=-]{12,8192})"
_IN_ADDRESS = r"(?<=://)[^\s/:@]{1,256}:[^\s/@]{1,256}(?=@)"
_EMAIL = (
    rf"(?<![{_LETTER}._%+-])[{_LETTER}._%+-]{{1,64}}@[{_LETTER}.-]{{1,253}}\.[A-Za-z\u00c0-\u024f\u0370-\u052f]{{2,24}}"
)
_CHINESE_ID = r"(?<!\d)\d{17}[\dXx](?![\dA-Za-z])"
_AMERICAN_ID = r"(?<![A-Za-z0-9_.-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![A-Za-z0-9-])"
_IBAN = r"(?<![A-Za-z0-9_])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?![A-Za-z0-9_])"
_CARD = r"(?<!\d)(?<!\d\.)\d(?:[ -]?\d){12,18}(?!\d|\.\d)"
_ABROAD = r"\+\d{1,3}[ -]?(?:\(0?\d{1,4}\)[ -]?)?\d{1,4}(?:[ /-]?\d{2,4}){2,5}"
_AMERICAN = r"\(\d{3}\) ?\d{3}-\d{4}|(?<!\d-)[2-9]\d{2}-\d{3}-\d{4}(?!-)"
_CHINESE = r"[1１][3-9３-９]\d(?:[ -]?\d{4}){2}"
_AT_HOME = r"01[5-7]\d[ /-]?\d{3,4}[ -]?\d{4,5}|(?<!\d-)0\d{2,3}-\d{7,8}"
_PHONE = rf"(?<![A-Za-z0-9_.+])(?:{_ABROAD}|{_AMERICAN}|{_CHINESE}|{_AT_HOME})(?!\d|\.\d)"
_CALLED = (
    rf"(?i)(?P<before>(?<![A-Za-z0-9])(?:{personal_numbers.PHONE})\.?[\"']?\s{{0,3}}[:：=]?\s{{0,3}}(?:是|为)?[\"']?)"
    r"(?P<value>\+?(?:\(\d{1,5}\)[ -]?)?\d(?:[ ()/-]{0,2}\d){6,14})(?!\d|\.\d)"
)

_TELLING = re.compile(r"[\d@:=：＝]|-----|\S{12}")
"""Without any of these a text has nothing to take out: most names have none."""

Check = Callable[[re.Match[str]], bool]


def _always(_found: re.Match[str]) -> bool:
    return True


def _of_text(is_one: Callable[[str], bool], found: re.Match[str]) -> bool:
    return is_one(found[0])


def _is_key(found: re.Match[str]) -> bool:
    """Names of several words begin so as well."""
    return re.search(r"[0-9A-Z]|[a-z]{16}", found[0]) is not None


def _is_authorization(found: re.Match[str]) -> bool:
    if found["scheme"].lower() == "bearer":
        return True
    value = found["value"].rstrip(".=")
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False


def _is_called(found: re.Match[str]) -> bool:
    return personal_numbers.is_called(found["value"])


_KINDS: tuple[tuple[str, re.Pattern[str], Check], ...] = (
    ("private key", re.compile(_PRIVATE_KEY, re.DOTALL), _always),
    ("token", re.compile(_SIGNED), _always),
    ("key", re.compile(_KEY), _is_key),
    ("credentials", re.compile(_AUTHORIZATION), _is_authorization),
    ("credentials", re.compile(_IN_ADDRESS), _always),
    ("password", confessions.CONFESSED, confessions.tells),
    ("password", confessions.PASSED, confessions.passes),
    ("password", confessions.SAID, confessions.says),
    ("password", confessions.TOLD, confessions.passes),
    ("email", re.compile(_EMAIL), _always),
    ("identity number", re.compile(_CHINESE_ID), partial(_of_text, personal_numbers.is_chinese_id)),
    ("identity number", re.compile(_AMERICAN_ID), _always),
    ("account", re.compile(_IBAN), partial(_of_text, personal_numbers.is_iban)),
    ("card", re.compile(_CARD), partial(_of_text, personal_numbers.is_card)),
    ("phone", re.compile(_CALLED), _is_called),
    ("phone", re.compile(_PHONE), partial(_of_text, personal_numbers.is_phone)),
)


def redacted(text: str) -> str:
    """Also of the one character that Postgres keeps in no text."""
    text = text.replace("\0", "\ufffd")
    if not _TELLING.search(text):
        return text
    for name, pattern, is_one in _KINDS:
        text = pattern.sub(partial(_replaced, f"[{name}]", is_one), text)
    return text


def _replaced(told: str, is_one: Check, found: re.Match[str]) -> str:
    return found.groupdict().get("before", "") + told if is_one(found) else found[0]


def redacted_content(content: Any, depth: int = 0) -> Any:
    """Of parsed JSON, wherever it says something: in names, in values, and in JSON that is a text itself."""
    return _content(content, "", {}, depth)


def _content(content: Any, name: str, beside: dict[str, Any], depth: int) -> Any:
    if isinstance(content, str):
        return _text(content, name, beside, depth)
    if isinstance(content, int) and not isinstance(content, bool):
        return _number(content, name)
    if depth >= _DEEPEST:
        return None if isinstance(content, list | dict) else content
    if isinstance(content, list):
        return [_content(one, name, {}, depth + 1) for one in content]
    if isinstance(content, dict):
        return _fields(content, depth)
    return content


def _fields(content: dict[str, Any], depth: int) -> dict[str, Any]:
    """Names that are the same afterwards are numbered. {"name": "password", "value": …} is a field as well."""
    kept: dict[str, Any] = {}
    counts: dict[str, int] = {}
    named = content.get("name", content.get("key"))
    for name, value in content.items():
        meant = named if name == "value" and isinstance(named, str) else name
        told = base = redacted(name)
        while told in kept:
            counts[base] = counts.get(base, 1) + 1
            told = f"{base} {counts[base]}"
        kept[told] = _content(value, _small(meant), content, depth + 1)
    return kept


def _text(text: str, name: str, beside: dict[str, Any], depth: int) -> str:
    if confessions.is_secret(name, text, beside):
        return "[password]"
    if personal_numbers.speaks_of_phones(name) and personal_numbers.is_called(text):
        return "[phone]"
    left = redacted(text)
    if text.lstrip()[:1] not in {"{", "["} or depth >= _DEEPEST:
        return left
    try:
        said = orjson.loads(text)
        found = _content(said, name, beside, depth + 1)
        if found == said and left == text:
            return text
        return json.dumps(found, ensure_ascii=False, separators=None if '": ' in text else (",", ":"))
    except ValueError:
        return left


def _number(number: int, name: str) -> int | str:
    if confessions.is_secret_number(name):
        return "[password]"
    kind = personal_numbers.kind_of(number, name)
    return number if kind is None else f"[{kind}]"


def _small(name: str) -> str:
    """`apiKey` as `api_key`."""
    return _PARTS.sub("_", name[-_LONGEST_NAME:]).casefold()
