import pytest

from inference_service.routing.beliefs import UNKNOWN_QUALITY, Belief, Beliefs


def test_the_most_specific_belief_counts() -> None:
    beliefs = Beliefs(
        [
            Belief("m", 0.5),
            Belief("m", 0.6, language="zh"),
            Belief("m", 0.7, domain="code"),
            Belief("m", 0.8, language="zh", domain="code"),
        ]
    )
    assert beliefs.quality("m", "zh", "code") == 0.8
    assert beliefs.quality("m", "de", "code") == 0.7
    assert beliefs.quality("m", "zh", "law") == 0.6
    assert beliefs.quality("m", "de", "law") == 0.5
    assert beliefs.quality("other", "de", "law") == UNKNOWN_QUALITY


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"quality": 1.2}, "quality"),
        ({"quality": 0.5, "strength": -1.0}, "strength"),
        ({"quality": 0.5, "language": "klingon"}, "language"),
        ({"quality": 0.5, "domain": "cooking"}, "domain"),
    ],
)
def test_a_belief_that_makes_no_sense_is_refused_by_field(given: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Belief("m", **given)  # type: ignore[arg-type]
