from typing import Any

import pytest

from inference_service.routing.features import Extractor, from_record
from inference_service.routing.fitting import TOOLS_READ, fit

EXTRACTOR = Extractor()
AREA = "Find the area of a triangle with a base of 10 and a height of 5."
TRIANGLE = {"name": "calculateTriangleArea", "description": "The area of a triangle from its base and height."}
WEATHER = {"name": "get_weather", "description": "The weather of the next days in a city."}


def called(*functions: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": function} for function in functions]


def test_a_tool_that_fits_is_told_from_one_that_does_not() -> None:
    assert fit(AREA, called(WEATHER)) == 0.0
    assert fit(AREA, called(TRIANGLE)) > 0.9
    assert fit(AREA, called(WEATHER, TRIANGLE)) == fit(AREA, called(TRIANGLE))
    assert fit("How will the weather be in Porto?", called(WEATHER)) > 0.5


@pytest.mark.parametrize("tools", [called(TRIANGLE), [TRIANGLE], [{"type": "function", **TRIANGLE}]])
def test_all_forms_of_tools_are_read(tools: list[Any]) -> None:
    assert fit(AREA, tools) > 0.9


def test_words_that_every_text_has_say_nothing() -> None:
    assert fit("What is this for, and which of them would you make?", called(WEATHER)) == 0.0


@pytest.mark.parametrize(
    "tools",
    [[None], ["x"], [{}], [{"function": 1}], [{"function": {"name": 1, "description": [2]}}], [{"name": "\ud800_"}]],
)
def test_no_tool_is_too_odd(tools: list[Any]) -> None:
    assert fit(AREA, tools) == 0.0


def test_no_more_than_a_bounded_part_is_read() -> None:
    assert fit(AREA, called(*[WEATHER] * TOOLS_READ, TRIANGLE)) == 0.0
    assert fit(AREA, called({"name": "x" * 1000 + "_triangle", "description": "y" * 1000 + " triangle"})) == 0.0


def test_the_bandit_sees_it() -> None:
    def last(text: str, *functions: dict[str, Any]) -> float:
        body = {"messages": [{"role": "user", "content": text}], "tools": called(*functions)}
        return float(EXTRACTOR.extract(body).context[-1])

    assert last(AREA, TRIANGLE) == pytest.approx(fit(AREA, called(TRIANGLE)))
    assert last(AREA, WEATHER) == 0.0
    assert last(AREA) == 0.0
    assert last("Wie groß ist die Fläche eines Dreiecks mit Grundseite 10?", WEATHER) == 0.5


def test_a_record_with_another_context_is_refused() -> None:
    record = EXTRACTOR.of_text(AREA).record()
    with pytest.raises(ValueError, match="context"):
        from_record({**record, "context": record["context"][:-1]})
