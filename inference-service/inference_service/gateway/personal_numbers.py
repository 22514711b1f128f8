"""Numbers that are somebody's, told from those that only look like it: cards, accounts, identities, telephones."""

import re

_ISSUED = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|[56]\d{15,18}|2(?:2[2-9]|[3-6]\d|7[012])\d{13}|220[0-4]\d{12,15}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35\d{14,17}|8[12]\d{14,17}|9(?:558|559|792)\d{12,15}"
)
"""By whom cards are issued, and how long theirs are: a time in milliseconds passes Luhn's check as well, one in ten."""
_MOBILE = re.compile(r"1(?:3\d|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8\d|9[0-35-9])\d{8}")
_YEAR, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|[12]\d|3[01])"
_YEAR_FIRST = rf"{_YEAR}[ /-]?(?:0[1-9]|1[0-2])[ /-]?(?:0[1-9]|[12]\d|3[01])"
_DATE = re.compile(rf"(?:{_YEAR_FIRST}|{_DAY}[/.-]{_DAY}[/.-]{_YEAR}|{_YEAR} ?- ?{_YEAR})(?:\D|$)")
_DIALLED = re.compile(r"\+?[\d ()/.-]{7,30}")
_MEASURED = re.compile(
    r"(?:^|_)(?:at|bytes?|count|created|duration|flops|free|ids?|length|limit|max|memory|min|ms|ns|offset|param(?:eter)?s?"
    r"|seed|size|sum|time|timestamp|tokens?|total|updated|us|used)(?:_|$)"
)
PHONE = (
    r"(?:(?:tele|cell|mobile ?)?phone|tel|telefon|mobile?|handy|(?:tele)?fax|(?:telefon|handy|mobil|ruf|fax)nummer)"
    r"(?:[ _-]?(?:number|num|no|nr))?"
    r"|手机号?码?|手機號?碼?|电话号?码?|電話號?碼?|電話番号|携帯番号|座机|传真"
)
"""How texts name them."""
_ENDS = (
    *("phone", "phones", "phonenumber", "phonenumbers", "phoneno", "mobile", "mobilenumber", "mobil", "handy", "fax"),
    *("telefon", "telefonnummer", "handynummer", "mobilnummer", "rufnummer", "faxnummer", "faxnumber", "telno"),
    *("手机", "手机号", "手机号码", "手機", "手機號碼", "电话", "电话号码"),
    *("電話", "電話番号", "電話號碼", "携帯番号", "座机", "传真"),
)


def is_card(text: str) -> bool:
    digits = "".join(str(int(one)) for one in text if one.isdecimal())
    return bool(_ISSUED.fullmatch(digits)) and _luhn(digits)


def is_chinese_id(text: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(d) * w for d, w in zip(text[:17], weights, strict=True)) % 11] == text[17].upper()


def is_iban(text: str) -> bool:
    packed = text.replace(" ", "").upper()
    moved = packed[4:] + packed[:4]
    return int("".join(str(int(one, 36)) for one in moved)) % 97 == 1


def is_phone(text: str) -> bool:
    return _is_mobile(int(text)) if text.isdecimal() and int(text[0]) == 1 else True


def is_called(text: str) -> bool:
    """What stands where a telephone's number is expected: no date."""
    return bool(_DIALLED.fullmatch(text)) and 7 <= _digits(text) <= 15 and not _DATE.match(text)


def kind_of(number: int, name: str) -> str | None:
    """Of a number in the field `name`, which is in small letters and has underscores between its words."""
    if not 10**6 <= number < 10**19:
        return None
    if speaks_of_phones(name):
        return "phone" if number < 10**15 else None
    if _MEASURED.search(name):
        return None
    if is_card(str(number)):
        return "card"
    return "phone" if _is_mobile(number) or (number // 10**11 == 86 and _is_mobile(number % 10**11)) else None


def speaks_of_phones(name: str) -> bool:
    return name == "tel" or name.endswith("_tel") or name.replace("_", "").endswith(_ENDS)


def _is_mobile(number: int) -> bool:
    """Sizes of memory and of models have as many digits, and are multiples of large powers of two."""
    return bool(_MOBILE.fullmatch(str(number))) and number % 1024 != 0 and number % 10**6 != 0


def _digits(text: str) -> int:
    return sum(one.isdecimal() for one in text)


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
