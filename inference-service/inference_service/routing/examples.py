"""The examples that the classifier starts from, the commonest words, and those by which languages are told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMPLEXITIES: Final = ("simple", "medium", "hard")
_HERE: Final = Path(__file__).parent
_COMPLEXITY_OF: Final = {name[0]: name for name in COMPLEXITIES}


@dataclass(frozen=True, slots=True)
class Example:
    """`complexity` is None where the text is only a list of words that are typical of the domain."""

    text: str
    language: str
    domain: str
    complexity: str | None


def examples() -> list[Example]:
    found: list[Example] = []
    language = domain = ""
    for line in _lines("examples.txt"):
        if line.startswith("["):
            language, domain = line.strip("[]").split()
            continue
        mark, text = line.split(" ", 1)
        found.append(Example(text, language, domain, _COMPLEXITY_OF.get(mark)))
    return found


def common_words() -> dict[str, str]:
    return dict(line.split(" ", 1) for line in _lines("words.txt"))


def language_words() -> list[tuple[str, str]]:
    parted = [line.split(" ", 1) for line in _lines("languages.txt")]
    return [(language, words) for language, words in parted]


def _lines(name: str) -> list[str]:
    whole = (_HERE / name).read_text(encoding="utf-8")
    return [line for line in whole.splitlines() if line and not line.startswith("#")]
