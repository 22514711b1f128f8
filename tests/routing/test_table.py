import math
import random

import numpy as np
import pytest

from inference_service.routing.classifier import new_classifier
from inference_service.routing.examples import common_words, examples
from inference_service.routing.signs import signs
from inference_service.routing.table import MIDDLE, ONE
from inference_service.routing.text import HEAD, TAIL, sample, tokens
from inference_service.routing.training import Trained, train

MOST_TOKENS = 430


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(examples(), common_words())


TEXTS = ("Prove that 17 is prime.", "请解释一下量子纠缠。", "def f(x): return x * {1: 2}[x]", "", "¿Por qué?\n\nNo sé.")


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_added_up_is_what_the_weights_say(trained: Trained, text: str) -> None:
    found = signs(text, trained.lexicon)
    rows = [trained.vocabulary[token] for token in found if token in trained.vocabulary]
    wanted = trained.weights[rows].sum(axis=0)
    votes = slice(-1 - len(trained.heads["language"]), -1)
    for token in found:
        wanted[votes] += trained.beyond.get(token, 0.0)
    table = trained.table
    total = sum(filter(None, map(table.tokens.get, found)), table.nothing)
    sums = [(each - MIDDLE) / ONE for each in table.unpacked(total)[: table.columns]]
    assert sums == pytest.approx(wanted.tolist(), abs=len(found) / ONE)
    hits = [trained.lexicon[token] for token in tokens(text) if token in trained.lexicon]
    assert dict(table.typical(total)) == {domain: hits.count(domain) for domain in hits}


def test_no_text_has_more_than_can_be_added(trained: Trained) -> None:
    heaviest = np.sort(np.abs(trained.weights), axis=0)[-MOST_TOKENS:]
    assert heaviest.sum(axis=0).max() < MIDDLE / ONE
    chance = random.Random(1)
    wide = [chr(each) for each in range(0x4E00, 0x4E00 + 2 * (HEAD + TAIL))]
    any_latin = [chr(each) for each in range(0x20, 0x2FF)]
    texts = [" ".join(wide), "".join(wide), "x".join(wide)]
    texts += ["".join(chance.choices(kind, k=2 * HEAD)) for kind in (wide, any_latin, "ab{}()[]; ") for _ in range(100)]
    assert max(len(signs(sample(text), trained.lexicon)) for text in texts) <= MOST_TOKENS


def test_chances_are_finite_whatever_was_corrected() -> None:
    classifier = new_classifier()
    text = "zzkrk brlm qwxs?"
    for number in range(300):
        classifier.learn(classifier.read(text).rows(), domain=classifier.domains[number % 2], complexity="hard")
    read = classifier.read(text)
    assert all(map(math.isfinite, (*read.domains, *read.complexities)))
    assert sum(read.domains) == pytest.approx(1.0)
