"""What stands in a text: a bounded sample of it, its tokens, its script."""

import operator
import re
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

HEAD: Final = 320
TAIL: Final = 96
WIDE_SHARE: Final = 2
"""A wide character says about as much as two others: of such texts half as much is looked at."""

_BLANKS: Final = bytes(ord(chr(number) if chr(number).isalnum() else " ") for number in range(128)).ljust(256)
_SYMBOLS: Final = "".join(sorted("{}()[];=<>^\\|$%+*/#?@`\n"))
_MARKS: Final = frozenset(_SYMBOLS) | frozenset(".,:!\"'-_&~\t\r¿¡«»–—‘’‚“”„…。，、；：？！（）《》「」『』【】·")
TELLING_LETTERS: Final = frozenset(
    "åøæãõășțşţğıłąęńśźżćčřšžěůőűđơưďťňýòì"  # no letters of English, German, French or Spanish
    "ạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ"
    "іїєґўђјљњћџѓќѕ"  # nor these of Russian
)
_MARKS_AND_LETTERS: Final = _MARKS | TELLING_LETTERS
_CODE_SYMBOLS: Final = frozenset("`{}(;=<>$")
_WIDE_RUNS: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_HANGUL_WORDS: Final = re.compile(r"[\uac00-\ud7a3]+")
_KANA: Final = re.compile(r"[\u3040-\u30ff]+")
_CYRILLIC: Final = re.compile(r"[\u0400-\u04ff]+")
_LATIN: Final = re.compile(r"[A-Za-z\u00c0-\u024f]+")
_FOREIGN_LETTERS: Final = re.compile(
    r"[^\W\d_A-Za-z\u00c0-\u024f\u0400-\u04ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7a3]+"
)
_BEYOND_LATIN: Final = re.compile(r"[^\u0000-\u024f\u2000-\u20ff]")
_CODE: Final = re.compile(
    r"```|\b(?:def|class|function|public|private|import|const|let|var|return|#include)\b[^.?!\n]{0,60}[({;:=]"
    r"|(?i:\bselect\b[^.?!]{1,80}\bfrom\b)|</?\w+>|[;{]\s*\n|=>|\w\(\w*\)[;:.]|\$ \w+ -"
)
_STEM: Final = 5


def sample(text: str) -> str:
    """Of a long text the beginning and the end, where people say what they want."""
    if len(text) <= HEAD + TAIL and text.isascii():
        return text
    head, tail = HEAD, TAIL
    if not text[:HEAD].isascii() and _mostly_wide(text[:64]):
        head, tail = HEAD // WIDE_SHARE, TAIL // WIDE_SHARE
    return text if len(text) <= head + tail else f"{text[:head]}\n{text[-tail:]}"


def _mostly_wide(beginning: str) -> bool:
    return 2 * sum(map(len, _WIDE_RUNS.findall(beginning))) > len(beginning)


def tokens(piece: str) -> dict[str, None]:
    """Symbols, telling letters, words, the beginnings of long words, neighbours where words are not parted; each once,
    in order."""
    lower = piece.lower()
    found: dict[str, None] = dict.fromkeys(filter(lower.__contains__, _SYMBOLS))
    if lower.isascii():
        words = lower.encode().translate(_BLANKS).decode().split()
    else:
        marks = _MARKS_AND_LETTERS.intersection(lower)
        if not marks.isdisjoint(TELLING_LETTERS):
            found.update(dict.fromkeys(sorted(marks & TELLING_LETTERS)))
            marks -= TELLING_LETTERS
        for mark in marks:
            lower = lower.replace(mark, " ")
        if _WIDE_RUNS.search(lower) is not None:
            runs = " ".join(_WIDE_RUNS.findall(lower))
            found.update(dict.fromkeys(map(operator.add, runs, islice(runs, 1, None))))
            lower = _WIDE_RUNS.sub(" ", lower)
        words = lower.split()
        if _HANGUL_WORDS.search(lower) is not None:
            found.update(dict.fromkeys([word[:2] + "-" for word in _HANGUL_WORDS.findall(lower) if len(word) > 2]))
    found.update(dict.fromkeys(words))
    found.update(dict.fromkeys([word[:_STEM] + "-" for word in words if len(word) > _STEM]))
    return found


def is_hangul(word: str) -> bool:
    return _HANGUL_WORDS.fullmatch(word) is not None


def looks_like_code(piece: str, found: Iterable[str]) -> bool:
    """`found`: its tokens."""
    return not _CODE_SYMBOLS.isdisjoint(found) and _CODE.search(piece) is not None


class Script(NamedTuple):
    """How many characters of which kind; a wide one counts in `language` as three others, so that a Chinese sentence
    round an English term is Chinese."""

    latin: int
    kana: int
    wide: int
    hangul: int
    cyrillic: int
    foreign: int

    @property
    def language(self) -> str | None:
        """Where the script tells it, "other" for scripts of languages that are not told apart; None: Latin letters."""
        most = max(3 * self.wide, 3 * self.hangul, self.cyrillic, self.foreign)
        if most <= self.latin:
            return None
        if most == 3 * self.wide:
            return self._of_wide
        return "ko" if most == 3 * self.hangul else "ru" if most == self.cyrillic else "other"

    @property
    def wide_language(self) -> str | None:
        """Of the wide characters, where there is a word of them."""
        return self._of_wide if self.wide >= 2 else None

    @property
    def _of_wide(self) -> str:
        return "ja" if self.kana * 8 > self.wide else "zh"


def script(piece: str) -> Script | None:
    """None: there is nothing but Latin letters."""
    if piece.isascii() or _BEYOND_LATIN.search(piece) is None:
        return None
    kinds = (_LATIN, _KANA, _WIDE_RUNS, _HANGUL_WORDS, _CYRILLIC, _FOREIGN_LETTERS)
    return Script(*[sum(map(len, kind.findall(piece))) for kind in kinds])


def estimated_tokens(characters: int, piece: str, of: Script | None) -> int:
    """About four characters a token, two where letters are not Latin, one and a half where they are wide."""
    if of is None or not piece:
        return (characters + 3) // 4
    wide = of.wide + of.hangul
    other = of.cyrillic + of.foreign
    plain = len(piece) - wide - other
    return 1 + round(characters * (wide / 1.5 + other / 2 + plain / 4) / len(piece))
