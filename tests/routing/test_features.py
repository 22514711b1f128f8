import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.routing.features import CONTEXT_SIZE, DOMAINS, LANGUAGES, Extractor, from_record

EXTRACTOR = Extractor()

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
NAMES = ("messages", "input", "prompt", "query", "tools", "functions", "response_format", "text", "model")
bodies = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, anything))
turns = st.fixed_dictionaries(
    {"messages": st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": anything}))}
)


@settings(max_examples=150, deadline=None)
@given(anything | bodies | turns)
def test_it_never_raises_and_is_always_whole(content: Any) -> None:
    features = EXTRACTOR.extract(content)
    assert features.language in LANGUAGES
    assert features.domain in DOMAINS
    assert 0 <= features.complexity <= 1
    assert 0 < features.confidence <= 1
    assert features.length_tokens >= 0
    assert features.context.shape == (CONTEXT_SIZE,)
    assert abs(features.context).max() < 10
    json.dumps(features.record(), allow_nan=False)


@settings(deadline=None)
@given(texts)
def test_lone_surrogates_and_any_other_text(text: str) -> None:
    assert EXTRACTOR.of_text(text + "\ud800").language in LANGUAGES


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How do I get from the station to the museum?", "en"),
        ("Wie komme ich vom Bahnhof zum Museum?", "de"),
        ("Comment aller de la gare au musée ?", "fr"),
        ("¿Cómo voy de la estación al museo?", "es"),
        ("Как пройти от вокзала до музея?", "ru"),
        ("从火车站到博物馆怎么走？", "zh"),
        ("駅から博物館までどうやって行きますか。", "ja"),
        ("역에서 박물관까지 어떻게 가나요?", "ko"),
        ("Come arrivo dalla stazione al museo?", "other"),
        ("كيف أصل من المحطة إلى المتحف؟", "other"),
        ("请解释 Kubernetes Ingress Controller 的工作原理，并给出例子", "zh"),
        ("Explain the characters 你好 and 谢谢 to a beginner", "en"),
    ],
)
def test_languages_also_where_scripts_are_mixed(text: str, language: str) -> None:
    assert EXTRACTOR.of_text(text).language == language


@pytest.mark.parametrize(
    "body",
    [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Solve 3x - 9 = 0 for x."},
            ]
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Solve 3x - 9 = 0 for x."}, {"type": "image_url"}],
                }
            ]
        },
        {"prompt": "Solve 3x - 9 = 0 for x."},
        {"prompt": ["Solve 3x - 9 = 0 for x."]},
        {"input": "Solve 3x - 9 = 0 for x."},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Solve 3x - 9 = 0 for x."}]}]},
        {"query": "Solve 3x - 9 = 0 for x."},
    ],
)
def test_every_kind_of_body_says_what_the_user_asks(body: dict[str, Any]) -> None:
    features = EXTRACTOR.extract(body)
    assert (features.language, features.domain) == ("en", "math")


def test_what_the_user_says_counts_and_not_what_the_system_or_the_model_said() -> None:
    law = "Can my landlord end the lease without notice, and must he pay back the deposit?"
    body = {
        "messages": [
            {"role": "system", "content": "You help with Python code, functions, bugs and unit tests."},
            {"role": "user", "content": law},
            {"role": "assistant", "content": "def answer(): return 42"},
            {"role": "user", "content": "And if I refuse?"},
        ]
    }
    assert EXTRACTOR.extract(body).domain == "law"


def test_tools_structure_code_and_length_are_seen() -> None:
    body = {
        "messages": [{"role": "user", "content": "Fix this:\n```python\ndef f(x): return x +\n```"}],
        "tools": [{"type": "function"}, {"type": "function"}],
        "response_format": {"type": "json_schema"},
    }
    features = EXTRACTOR.extract(body)
    assert features.tools == 2
    assert features.structured
    assert features.code
    assert not EXTRACTOR.of_text("What is the weather like (roughly) in May?").code
    assert EXTRACTOR.of_text("a" * 40_000).length_class == "huge"
    assert 900 < EXTRACTOR.of_text("word " * 800).length_tokens < 1100


def test_a_long_conversation_counts_in_its_length() -> None:
    turn = {"role": "user", "content": "What is meant by that?" * 10}
    assert EXTRACTOR.extract({"messages": [turn] * 1000}).length_tokens > 40_000


def test_a_record_gives_the_same_features_back() -> None:
    features = EXTRACTOR.of_text("Explain the GDPR to a tenant.")
    again = from_record(json.loads(json.dumps(features.record())))
    assert again.as_dict() == features.as_dict()
    assert abs(again.context - features.context).max() < 1e-3
    assert set(features.as_dict()) >= {
        "language",
        "domain",
        "complexity",
        "lengthTokens",
        "tools",
        "code",
        "confidence",
    }


def test_a_megabyte_costs_little_more_than_a_line() -> None:
    body = {"messages": [{"role": "user", "content": "Explain (x = 1) the lot; of all words. " * 25_641}]}
    EXTRACTOR.extract(body)
    best = min(_seconds(body) for _ in range(20))
    assert best < 0.001
    assert min(_seconds({"messages": [{"role": "user", "content": "a"}] * 100_000}) for _ in range(20)) < 0.002


def _seconds(body: dict[str, Any]) -> float:
    started = time.process_time()
    EXTRACTOR.extract(body)
    return time.process_time() - started
