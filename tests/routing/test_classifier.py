import time
from collections import defaultdict

import pytest

from inference_service.routing.classifier import Classifier, new_classifier
from inference_service.routing.examples import COMPLEXITIES, common_words, examples
from inference_service.routing.features import DOMAINS, LANGUAGES, Extractor
from inference_service.routing.training import train
from tests.routing.keywords import Keywords
from tests.routing.splitting import parts

FOLDS = 5


@pytest.fixture(scope="module")
def held_out() -> dict[str, dict[str, float]]:
    """By language: the share of prompts, of a part that was not trained on, that are read right."""
    prompts = [each for each in examples() if each.complexity]
    lists = [each for each in examples() if not each.complexity]
    keywords = Keywords(lists)
    folds = parts(prompts, FOLDS)
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for number, asked in enumerate(folds):
        taught = [each for other, fold in enumerate(folds) if other != number for each in fold]
        extractor = Extractor(Classifier(train(taught + lists, common_words())))
        for each in asked:
            features = extractor.of_text(each.text)
            for language in (each.language, "all"):
                right[language]["domain"].append(features.domain == each.domain)
                right[language]["complexity"].append(features.complexity_class == each.complexity)
                right[language]["language"].append(features.language == each.language)
                right[language]["keywords"].append(keywords.domain(each.text, each.language) == each.domain)
    found = {
        language: {name: sum(values) / len(values) for name, values in names.items()}
        for language, names in right.items()
    }
    for language, names in found.items():
        print(language, len(right[language]["domain"]), {name: round(value, 3) for name, value in names.items()})
    return found


def test_it_reads_what_it_has_not_seen(held_out: dict[str, dict[str, float]]) -> None:
    assert held_out["all"]["domain"] >= 0.70
    assert held_out["all"]["complexity"] >= 0.75
    assert held_out["all"]["language"] >= 0.97
    for language in ("en", "zh", "de"):
        assert held_out[language]["domain"] >= 0.62, language


def test_it_is_better_than_keywords(held_out: dict[str, dict[str, float]]) -> None:
    assert held_out["all"]["domain"] > held_out["all"]["keywords"] + 0.02


def test_examples_cover_every_domain_language_and_complexity() -> None:
    found = {(each.language, each.domain, each.complexity) for each in examples()}
    for language in LANGUAGES:
        for domain in DOMAINS:
            for complexity in COMPLEXITIES:
                assert language == "other" or (language, domain, complexity) in found


def test_training_takes_well_under_a_second() -> None:
    started = time.process_time()
    train(examples(), common_words())
    assert time.process_time() - started < 2


def test_training_twice_gives_the_same() -> None:
    one, other = (train(examples(), common_words()) for _ in range(2))
    assert one.vocabulary == other.vocabulary
    assert (one.weights == other.weights).all()


def test_the_domains_are_those_of_the_examples() -> None:
    assert new_classifier().domains == DOMAINS


def test_a_correction_is_learnt_and_carries_over_to_texts_like_it() -> None:
    extractor = Extractor()
    text = "Kann der Zwölfzylinder mit Vergaserbrand noch zum Zylinderkopfplanschleifen?"
    alike = "Vergaserbrand am Zwölfzylinder, was nun?"
    before = extractor.of_text(text)
    assert before.domain != "science"
    extractor.classifier.learn(before.rows, domain="science", complexity="hard")
    assert extractor.of_text(text).domain == "science"
    assert extractor.of_text(text).complexity_class == "hard"
    for _ in range(3):
        extractor.classifier.learn(extractor.of_text(text).rows, domain="science")
    place = DOMAINS.index("science") + 1
    assert extractor.of_text(alike).context[place] > Extractor().of_text(alike).context[place]


def test_corrections_leave_other_texts_alone() -> None:
    extractor = Extractor()
    odd = extractor.of_text("zzkrk brlm qwxs")
    extractor.classifier.learn(odd.rows, domain="law")
    assert extractor.of_text("What is the derivative of x^3?").domain == "math"
    assert Extractor().of_text("zzkrk brlm qwxs").domain == odd.domain


def test_corrections_survive_in_the_state() -> None:
    extractor = Extractor()
    text = "zzkrk brlm qwxs"
    extractor.classifier.learn(extractor.of_text(text).rows, domain="law", complexity="hard")
    fresh = new_classifier()
    fresh.restore(extractor.classifier.to_state())
    assert Extractor(fresh).of_text(text).as_dict() == extractor.of_text(text).as_dict()


@pytest.mark.parametrize(
    ("given", "named"), [({"domain": "cooking"}, "domain"), ({"complexity": "very"}, "complexity")]
)
def test_a_label_that_does_not_exist_is_refused_with_what_there_is(given: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=rf"{named}: .* is none of "):
        new_classifier().learn([1], **given)
