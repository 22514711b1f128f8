"""Whether languages are told right of short questions that nothing is trained on."""

from collections import defaultdict
from pathlib import Path

import pytest

from inference_service.routing.examples import examples, language_words
from inference_service.routing.features import LANGUAGES, Extractor
from inference_service.routing.languages import CYRILLIC, evidence

EXTRACTOR = Extractor()


def _questions() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    language = ""
    for line in (Path(__file__).parent / "languages.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            language = line.strip("[]")
        elif not line.startswith("#"):
            found[language].append(line)
    return found


QUESTIONS = _questions()
NAMED = [language for language in QUESTIONS if language in LANGUAGES]
OTHERS = [language for language in QUESTIONS if language not in LANGUAGES]


def _right(language: str) -> tuple[int, int]:
    wanted = language if language in NAMED else "other"
    read = [EXTRACTOR.of_text(text).language for text in QUESTIONS[language]]
    return read.count(wanted), len(read)


def test_nothing_is_trained_on_them() -> None:
    taught = {each.text for each in examples()} | {words for _, words in language_words()}
    assert not taught & {text for texts in QUESTIONS.values() for text in texts}


@pytest.mark.parametrize("language", OTHERS)
def test_most_questions_in_another_language_are_other(language: str) -> None:
    right, asked = _right(language)
    assert right >= 0.6 * asked


@pytest.mark.parametrize("language", NAMED)
def test_most_questions_in_a_named_language_are_its_own(language: str) -> None:
    """Of mixed text the script that dominates tells."""
    right, asked = _right(language)
    assert right >= (0.6 if language == "zh" else 0.8) * asked


def test_nearly_all_are_told_right() -> None:
    for languages, least in ((OTHERS, 0.9), (NAMED, 0.94)):
        counts = [_right(language) for language in languages]
        right, asked = (sum(each) for each in zip(*counts, strict=True))
        print(f"{right} of {asked}")
        assert right >= least * asked


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", "en"),
        ("zzkrk brlm qwxs", "en"),
        ("x = [1, 2, 3]; print(sum(x))", "en"),
        ("Where is Świnoujście, and how do I get to Łódź from there?", "en"),
        ("Wo liegt Świnoujście, und wie komme ich von dort nach Łódź?", "de"),
        ("Wuerdest du mir bitte die Loesung erklaeren", "de"),
        ("Гдыр бзлм", "ru"),
        ("Что значит по-украински слово «ґанок»?", "ru"),
        ("Какво означава тази дума и защо?", "other"),
        ("Proszę o pomoc:\n```python\nfor each in rows:\n    print(each)\n```", "other"),
        ("Wyjasnij prosze, dlaczego to nie dziala", "other"),
        ("Vielen Dank", "de"),
        ("AI trends 2025", "en"),
        ("GDP per capita", "en"),
        ("Car insurance", "en"),
        ("iPad Pro vs Surface Pro", "en"),
        ("Los Angeles weather", "en"),
        ("Kubernetes pod CrashLoopBackOff", "en"),
        ("docker run -d -p 80:80 nginx", "en"),
        ("tar -xzf a.tar.gz -C /tmp", "en"),
        ("for (var i = 0; i < n; i++) {}", "en"),
        ("void g(int n, char *s, double d, long l) { s[n] = d; }", "en"),
        ("iPad Pro 和 MacBook Pro 区别", "zh"),
        ("Los Angeles 旅游", "zh"),
        ("怎么用 pandas 合并 DataFrame", "zh"),
        ("Kubernetes pod 一直 CrashLoopBackOff", "zh"),
        ("nginx 502 Bad Gateway 怎么办", "zh"),
        ("How do I say good morning in Chinese: 早上好?", "en"),
        ("Wie spricht man das Wort 你好 richtig aus?", "de"),
        ("MacBook Pro が起動しない", "ja"),
    ],
)
def test_at_the_edges(text: str, language: str) -> None:
    assert EXTRACTOR.of_text(text).language == language


def test_votes_are_of_words_and_letters_alone() -> None:
    found = evidence(examples(), language_words())
    assert found.names[-len(CYRILLIC) :] == CYRILLIC
    assert found.names[0] == "en"
    assert not {"{", ";", "2", "17"} & found.of.keys()
    assert found.of["ø"][found.names.index("nordic")] > found.of["ø"][0] == 0.0
