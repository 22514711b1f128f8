import numpy as np
import pytest

from inference_service.routing.decision import Candidate, Decision
from inference_service.routing.judging import (
    QUERY_CHARACTERS,
    STILL_DRAWN,
    judge_messages,
    judged_model,
    with_judgement,
)
from tests.routing.worlds import CODE

MODELS = ["llama", "llama-large", "gpt-4.1"]
CANDIDATES = [Candidate(model, 0.5, 1 / 3, 0.5, 0.001, None) for model in MODELS]


def test_the_prompt_tells_the_candidates_and_a_bounded_query() -> None:
    messages = judge_messages("begin " + "x" * 100_000 + " end", CODE, CANDIDATES)
    content = messages[1]["content"]
    assert len(content) < QUERY_CHARACTERS + 1000
    assert "begin" in content
    assert "end" in content
    for number, model in enumerate(MODELS, 1):
        assert f"{number}. {model}: expected quality 0.50, cost 0.001" in content


@pytest.mark.parametrize(
    ("answer", "model"),
    [
        ("2", "llama-large"),
        (" **3** ", "gpt-4.1"),
        ("Model 1.", "llama"),
        ("I would pick llama-large, for it is strong.", "llama-large"),
        ("LLAMA", "llama"),
        ("gpt-4.1.", "gpt-4.1"),
        ("<think>1 or 2? 1 is cheap.</think>\n2", "llama-large"),
        ("The answer is 3, with 95% confidence and quality 0.9", "gpt-4.1"),
        ("llama or llama-large", None),
        ("1 or 2", None),
        ("7", None),
        ("", None),
        ("I cannot help with that.", None),
        ("<think>1", None),
        ("9" * 10_000, None),
    ],
)
def test_the_answer_is_found_in_chatter_or_not_at_all(answer: str, model: str | None) -> None:
    assert judged_model(answer, MODELS) == model


def test_a_judgement_keeps_propensities_that_are_true() -> None:
    random = np.random.default_rng(0)
    decision = Decision("llama", "why", "thompson", CANDIDATES, unsure=True, held=3)
    results = [with_judgement(decision, "gpt-4.1", random) for _ in range(3000)]
    assert results[0].candidates[2].propensity == pytest.approx(1 - STILL_DRAWN + STILL_DRAWN / 3)
    assert sum(each.propensity for each in results[0].candidates) == pytest.approx(1)
    kept = sum(result.model == "llama" for result in results) / len(results)
    assert kept == pytest.approx(STILL_DRAWN, abs=0.025)
    judged = next(result for result in results if result.model == "gpt-4.1")
    assert judged.reason == "unsure by the statistics: the judge chose gpt-4.1"
    assert judged.held == 3
