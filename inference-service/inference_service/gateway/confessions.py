"""Names whose owners say that what follows is a secret: `password: …` in a text, and fields of objects."""

import re

_NAMES = (
    r"pass(?:word|wort|wd|phrase|code)|kennwort|pwd|secret|(?:api|access|private|secret|signing|encryption)[ _-]?key"
    r"|(?:api|zugangs|zugriffs)[ _-]?schl(?:ü|ue)ssel|token|authorization|contraseña|mot de passe"
)
_CHINESE = (
    "密码|密碼|口令|密钥|密鑰|秘钥|私钥|私鑰|令牌|パスワード|暗証番号|トークン|秘密鍵|アクセスキー|APIキー|비밀번호"
)
_PASSWORDS = (
    *("password", "passwort", "passwd", "passcode", "passphrase", "kennwort", "pwd", "contraseña", "motdepasse"),
    *("密码", "密碼", "口令", "パスワード", "暗証番号", "비밀번호"),
)
_ENDS = (
    *_PASSWORDS,
    *("passwords", "secret", "secrets", "apikey", "apikeys", "accesskey", "privatekey", "secretkey", "signingkey"),
    *("encryptionkey", "authkey", "schlüssel", "token", "authorization", "bearer", "credential", "credentials"),
    *("密钥", "密鑰", "秘钥", "私钥", "私鑰", "令牌", "トークン", "秘密鍵", "アクセスキー", "apiキー"),
)
_QUOTES = r"[\"'`*\\]{0,4}"
_SCHEME = r"(?:bearer|basic|token|digest|apikey)\s{1,8}"
_QUOTED = r"(?<=\")[^\"\n]{4,512}(?=\")|(?<=')[^'\n]{4,512}(?=')"
_VALUE = rf"(?:{_QUOTED}|(?:{_SCHEME})?[^\s\"'`,;，。；、！？）】」』]{{4,4096}})"
_ASCII_VALUE = r"[!#-&(-+\--:<-~]{4,512}"

CONFESSED = re.compile(
    rf"(?i)(?<![A-Za-z0-9_-])(?P<name>[A-Za-z0-9_-]{{0,40}}(?:{_NAMES}))(?![A-Za-z0-9_])"
    rf"{_QUOTES}\s{{0,8}}[:=：＝]{_QUOTES}\s{{0,8}}[\"'`]?(?P<value>{_VALUE})"
)
PASSED = re.compile(r"(?i)(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]{0,40}[_-])?pass=[\"']?(?P<value>[^\s\"',;&]{6,512})")
SAID = re.compile(
    rf"(?i)(?:{_CHINESE}|(?<![A-Za-z0-9_-])(?:{_NAMES})(?=\s?[是为為は]))[\"'`*”」』]?\s{{0,8}}"
    rf"(?P<link>[:：=＝]|是|为|為|は)?\s{{0,8}}[\"'`*“‘「『]?(?P<value>{_ASCII_VALUE})"
)
TOLD = re.compile(
    r"(?i)(?<![A-Za-z])(?:passwor[dt]|kennwort|passcode|passphrase)\s{1,3}(?:is|ist|lautet)\s{0,3}:?\s{0,3}[\"'`]?"
    r"(?P<value>[^\s\"'`,;-]{6,64})(?![^\s\"'`,;.])"
)

_PASS_FIELD = re.compile(r"(?:^|_|user|db)pass$")
_TOKENS_OF_TEXT = re.compile(
    r"(?:^|[_-])(?:bos|eos|pad|unk|sep|cls|mask|special|stop|first|last|next|page|continuation|start|begin|end|image"
    r"|audio|video|max|min|per|num|prompt|completion|input|output)[_-]?token$",
    re.IGNORECASE,
)
_MARK = re.compile(r"\[[a-z ]{3,20}\]\W{0,3}")
_NOTHING = re.compile(
    r"(?:none|null|nil|true|false|undefined|str|string|bytes|bool|key|required|optional|secretstr|(?:your[_-])?(?:password|secret"
    r"|token|api[_-]?key))[\W_]*",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"[A-Za-z_.]{1,100}[\[(]|(?:self|this|args|config|settings|process|req|request|env|user|options|params)\.[A-Za-z_]"
    r"|[A-Z]{1,100}_[A-Z_]{1,100}(?![A-Za-z0-9])"
)
_PLACE = re.compile(
    rf"(?i:{_SCHEME})?(?:\$\{{[^}}]{{1,100}}\}}?|\$[A-Z_]{{3,100}}|\{{\{{[^}}]{{1,100}}\}}\}}|\{{[A-Za-z_.]{{1,100}}\}}"
    r"|<[^>]{1,100}>)(?![A-Za-z0-9])"
)
"""Where a secret would be put in."""


def tells(found: re.Match[str]) -> bool:
    name, value = found["name"].casefold(), found["value"]
    if not _is_value(value) or _is_code(found) or _TOKENS_OF_TEXT.search(name):
        return False
    if name.endswith("authorization"):
        return len(value) >= 16 or any(map(str.isdecimal, value))
    return (name != "token" and " " not in name) or _is_token(value)


def passes(found: re.Match[str]) -> bool:
    return _is_value(found["value"]) and _is_mixed(found["value"]) and not _is_code(found)


def says(found: re.Match[str]) -> bool:
    """Where no colon stands between both, words that speak about passwords are many, and passwords themselves few."""
    link, value = found["link"], found["value"].rstrip(".!?)*`")
    if not _is_value(value):
        return False
    if link and link in ":：=＝":
        return value.isdecimal() or any(map(str.isalpha, value))
    if link and value.isdecimal():
        return len(value) >= 6
    return len(value) >= (7 if link else 8) and _is_mixed(value)


def is_secret(name: str, value: str, beside: dict[str, object]) -> bool:
    """A field's text; `name` is in small letters and has underscores between its words. A token may be a piece of text,
    too, as it is beside its probability."""
    if _PASS_FIELD.search(name):
        return len(value) >= 4 and _is_mixed(value) and _is_value(value)
    if not name.replace("_", "").endswith(_ENDS) or _TOKENS_OF_TEXT.search(name):
        return False
    if name == "token" and ("logprob" in beside or not _is_token(value)):
        return False
    return bool(value) and _is_value(value)


def is_secret_number(name: str) -> bool:
    return name.replace("_", "").endswith(_PASSWORDS)


def _is_value(text: str) -> bool:
    return not (_MARK.fullmatch(text) or _NOTHING.fullmatch(text) or _PLACE.match(text))


def _is_code(found: re.Match[str]) -> bool:
    before = found.string[found.start("value") - 1]
    return before not in "\"'`" and _CODE.match(found["value"]) is not None


def _is_token(text: str) -> bool:
    """No word, nor a piece of one."""
    if " " in text or len(text) < 6:
        return False
    return len(text) >= 20 or text.isdecimal() or (len(text) >= 8 and _is_mixed(text))


def _is_mixed(text: str) -> bool:
    return any(map(str.isdecimal, text)) and any(map(str.isalpha, text))
