"""Takes out of what is kept of a request what would harm somebody if it were read: secrets and personal numbers."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

_DEEPEST = 30


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_chinese_id(text: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(d) * w for d, w in zip(text[:17], weights, strict=True)) % 11] == text[17].upper()


def _is_iban(text: str) -> bool:
    packed = text.replace(" ", "").upper()
    moved = packed[4:] + packed[:4]
    return int("".join(str(int(one, 36)) for one in moved)) % 97 == 1


def _always(_text: str) -> bool:
    return True


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 13 <= len(digits) <= 19 and _luhn(digits)


_PRIVATE_KEY = r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
_SIGNED = r"(?<![\w-])eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{0,2048}"
_KEY = r"\b(?:sk|pk|rk|hf|ghp|gho|ghs|github_pat|glpat|xox[abps]|AKIA|ASIA|AIza|imts)[-_]?[A-Za-z0-9_-]{16,4096}"
_AUTHORIZATION = r"(?i)\b(?:bearer|basic)\s{1,8}[A-Za-z0-9._~+/=-]{12,8192}"
_IN_ADDRESS = r"(?<=://)[^\s/:@]{1,256}:[^\s/@]{1,256}(?=@)"
_CONFESSED = (
    r"(?i)(?<![\w-])(?:[\w-]{0,40}[_-])?(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?key|token)"
    r"\b[\"']?\s{0,8}[:=]\s{0,8}[\"']?[^\s\"',;]{4,4096}"
)
_EMAIL = r"(?<![\w.%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,253}\.[A-Za-z]{2,24}"
_CHINESE_ID = r"(?<!\d)\d{17}[\dXx](?![\dA-Za-z])"
_IBAN = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"
_CARD = r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)"
_ABROAD = r"\+\d{1,3}[ -]?(?:\(0?\d{1,4}\)[ -]?)?\d{2,4}(?:[ -]?\d{2,4}){2,4}"
_AMERICAN = r"\(\d{3}\) ?\d{3}-\d{4}"
_CHINESE = r"1[3-9]\d(?:[ -]?\d{4}){2}"
_PHONE = rf"(?<![\w.])(?:{_ABROAD}|{_AMERICAN}|{_CHINESE})(?!\d)"

_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("private key", re.compile(_PRIVATE_KEY, re.DOTALL), _always),
    ("token", re.compile(_SIGNED), _always),
    ("key", re.compile(_KEY), _always),
    ("credentials", re.compile(_AUTHORIZATION), _always),
    ("credentials", re.compile(_IN_ADDRESS), _always),
    ("password", re.compile(_CONFESSED), _always),
    ("email", re.compile(_EMAIL), _always),
    ("identity number", re.compile(_CHINESE_ID), _is_chinese_id),
    ("account", re.compile(_IBAN), _is_iban),
    ("card", re.compile(_CARD), _is_card),
    ("phone", re.compile(_PHONE), _always),
)


def redacted(text: str) -> str:
    """Also of the one character that Postgres keeps in no text."""
    text = text.replace("\0", "\ufffd")
    for name, pattern, is_one in _KINDS:
        text = pattern.sub(partial(_replaced, f"[{name}]", is_one), text)
    return text


def _replaced(told: str, is_one: Callable[[str], bool], found: re.Match[str]) -> str:
    return told if is_one(found[0]) else found[0]


def redacted_content(content: Any, depth: int = 0) -> Any:
    """Of parsed JSON, wherever it says something."""
    if isinstance(content, str):
        return redacted(content)
    if depth >= _DEEPEST:
        return None
    if isinstance(content, list):
        return [redacted_content(one, depth + 1) for one in content]
    if isinstance(content, dict):
        return {name.replace("\0", "\ufffd"): redacted_content(value, depth + 1) for name, value in content.items()}
    return content
