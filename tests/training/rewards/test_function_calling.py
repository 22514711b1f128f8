import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.rewards.taking import seconds
from tests.training.rewards.test_calls import JSON, JUNK
from training_service.rewards.calls import Call, calls_text
from training_service.rewards.function_calling import (
    SCORERS,
    argument_keys_reward,
    argument_values_reward,
    format_reward,
    likeness,
    name_reward,
    schema_reward,
)

WEATHER = Call("weather", {"city": "Bern", "days": 3})
TIME = Call("time", {})
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "time"}},
    {"name": "a", "parameters": {"type": "object", "properties": {"a": {"items": {"type": "integer"}}}}},
]


def said(*calls: Call) -> str:
    return "".join(f"<tool_call>\n{calls_text([call])}\n</tool_call>" for call in calls)


def weather(**arguments: Any) -> Call:
    return Call("weather", arguments)


@pytest.mark.parametrize("name", SCORERS)
def test_what_was_expected_is_worth_all(name: str) -> None:
    assert SCORERS[name](said(WEATHER, TIME), [TIME, WEATHER], TOOLS) == 1.0


@pytest.mark.parametrize("name", SCORERS)
def test_no_call_is_right_where_none_is_expected(name: str) -> None:
    assert SCORERS[name]("It rains.", [], TOOLS) == 1.0
    assert SCORERS[name](said(WEATHER), [], TOOLS) == 0.0
    assert SCORERS[name]("<tool_call>{", [], TOOLS) == 0.0


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("text", ["", "It rains.", "<tool_call>{", '{"name": "weather"}', "\x00", "\ud800"])
def test_no_call_is_worth_nothing_where_one_is_expected(name: str, text: str) -> None:
    assert SCORERS[name](text, [WEATHER], TOOLS) == 0.0


def test_format_is_the_share_of_calls_that_can_be_read() -> None:
    assert format_reward(said(Call("other", {})), [WEATHER]) == 1.0
    assert format_reward(said(WEATHER) + "<tool_call>{", [WEATHER]) == 0.5


@pytest.mark.parametrize(
    ("made", "wanted", "worth"),
    [
        ([TIME], [WEATHER], 0),
        ([TIME], [WEATHER, TIME], 2 / 3),
        ([TIME, TIME], [TIME], 2 / 3),
        ([TIME, TIME], [TIME, TIME], 1),
        ([TIME, WEATHER, Call("x", {})], [WEATHER], 1 / 2),
    ],
)
def test_names(made: list[Call], wanted: list[Call], worth: float) -> None:
    assert name_reward(said(*made), wanted) == pytest.approx(worth)


@pytest.mark.parametrize(
    ("made", "wanted", "worth"),
    [
        ([weather(city="Rom", days=1)], [WEATHER], 1),
        ([weather(city="Rom")], [WEATHER], 2 / 3),
        ([weather(city="Rom", days=1, land="CH")], [WEATHER], 4 / 5),
        ([weather(land="CH")], [WEATHER], 0),
        ([weather()], [WEATHER], 0),
        ([Call("wetter", {"city": "Bern", "days": 3})], [WEATHER], 0),
        ([TIME], [TIME], 1),
        ([Call("time", {"zone": None})], [TIME], 1),
        ([WEATHER, WEATHER], [WEATHER], 2 / 3),
        ([weather(days=1), weather(city="Rom")], [weather(city="Bern"), weather(days=2)], 1),
    ],
)
def test_argument_keys(made: list[Call], wanted: list[Call], worth: float) -> None:
    assert argument_keys_reward(said(*made), wanted) == pytest.approx(worth)


@pytest.mark.parametrize(
    ("made", "wanted", "worth"),
    [
        ([weather(city="Bern", days=3.0)], [WEATHER], 1),
        ([weather(city="Bern", days=4)], [WEATHER], 1 / 2),
        ([weather(city=" bern ", days=3)], [WEATHER], 3 / 4),
        ([weather(city="Bern", days="3")], [WEATHER], 3 / 4),
        ([weather(city="Bern")], [WEATHER], 2 / 3),
        ([weather(city="Rom", days=1)], [WEATHER], 0),
        ([TIME], [WEATHER], 0),
        ([weather(city="Rom"), weather(city="Bern")], [weather(city="Bern"), weather(city="Rom")], 1),
        ([weather(city="Rom")], [weather(city="Bern"), weather(city="Rom")], 2 / 3),
    ],
)
def test_argument_values(made: list[Call], wanted: list[Call], worth: float) -> None:
    assert argument_values_reward(said(*made), wanted) == pytest.approx(worth)


@pytest.mark.parametrize(
    ("one", "other", "worth"),
    [
        (1, 1.0, 1),
        (1, True, 0),
        (0, False, 0),
        ("true", True, 0.5),
        ("1.0", 1, 0),
        ("1", 1.0, 0.5),
        (None, None, 1),
        (None, "", 0),
        ("Zürich", "Zu\u0308rich", 0.5),
        ("A  B\n", "a b", 0.5),
        ("東京", "東京", 1),
        ("a" * 2000, "A" * 2000, 0),
        ([1, 2], [1, 2], 1),
        ([1, 2], [2, 1], 0),
        ([1], [1, 2], 2 / 3),
        ([], [], 1),
        ({}, {}, 1),
        ({}, [], 0),
        ({"a": {"b": [1, "X"]}}, {"a": {"b": [1, "x"]}}, 0.75),
        ({"a": 1, "b": None}, {"a": 1}, 1),
        ("[1]", [1], 0),
        (float("inf"), float("inf"), 1),
    ],
)
def test_likeness(one: Any, other: Any, worth: float) -> None:
    assert likeness(one, other) == pytest.approx(worth)
    assert likeness(other, one) == pytest.approx(worth)


@given(JSON, JSON)
def test_likeness_is_a_share_and_the_same_both_ways(one: Any, other: Any) -> None:
    assert 0 <= likeness(one, other) <= 1
    assert likeness(one, other) == pytest.approx(likeness(other, one))
    assert likeness(one, json.loads(json.dumps(one))) == pytest.approx(1)


@pytest.mark.parametrize(
    ("made", "worth"),
    [
        ([weather(city="Rom")], 1),
        ([weather(days=3)], 0),
        ([weather(city="Rom", days=8)], 0),
        ([weather(city="Rom", days="3")], 0),
        ([weather(city=None)], 0),
        ([Call("Weather", {"city": "Rom"})], 0),
        ([Call("time", {"anything": 1})], 1),
        ([WEATHER, weather()], 1 / 2),
    ],
)
@pytest.mark.parametrize("kind", ["openai", "bare", "text", "texts", "filled"])
def test_schema(made: list[Call], worth: float, kind: str) -> None:
    bare = [tool.get("function", tool) for tool in TOOLS]
    filled = json.loads(json.dumps(TOOLS))
    filled[0]["function"]["parameters"]["properties"]["city"]["enum"] = None
    filled[0]["function"]["parameters"]["properties"]["zone"] = None
    tools = {
        "openai": TOOLS,
        "bare": bare,
        "text": json.dumps(TOOLS),
        "texts": [json.dumps(tool) for tool in bare],
        "filled": filled,
    }[kind]
    assert schema_reward(said(*made), [WEATHER], tools) == worth


@pytest.mark.parametrize("tools", [None, "", "[]", "nonsense", [], 3, [3], {"name": 3}, [{"name": ""}], "{" * 9999])
def test_nothing_can_be_carried_out_without_tools(tools: Any) -> None:
    assert schema_reward(said(WEATHER), [WEATHER], tools) == 0.0


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "nonsense", "properties": {"city": {"type": "also"}}},
        {"type": "object", "properties": {"city": {"pattern": "("}}},
        {"type": "object", "properties": 3},
        {"$ref": "#"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "#/$defs/missing"},
        {"allOf": 3},
        {"type": "object", "properties": {"days": {"multipleOf": 0}}},
        "nonsense",
        "",
        {},
    ],
)
def test_a_schema_that_is_wrong_itself_refuses_nothing(parameters: Any) -> None:
    assert schema_reward(said(WEATHER), [WEATHER], [{"name": "weather", "parameters": parameters}]) == 1.0


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "dict", "properties": {"city": {"type": "str"}, "days": {"type": "int"}}, "required": ["city"]},
        {"city": {"type": "str"}, "days": {"type": "int", "default": 3}},
        {"city": {"type": "str", "description": "where"}, "days": {"type": "int, optional"}},
        json.dumps(
            {"type": "object", "properties": {"city": {"type": "string", "required": True}}, "required": ["city"]}
        ),
    ],
)
def test_schemas_in_the_words_of_python(parameters: Any) -> None:
    tools = [{"name": "weather", "parameters": parameters}]
    assert schema_reward(said(WEATHER), [WEATHER], tools) == 1.0
    assert schema_reward(said(weather(city="Bern")), [WEATHER], tools) == 1.0
    assert schema_reward(said(weather(city=3)), [WEATHER], tools) == 0.0
    assert schema_reward(said(weather(days=3)), [WEATHER], tools) == 0.0


def test_a_parameter_called_type() -> None:
    tools = [{"name": "f", "parameters": {"type": "object", "properties": {"type": {"type": "str"}}}}]
    assert schema_reward(said(Call("f", {"type": "x"})), [TIME], tools) == 1.0
    assert schema_reward(said(Call("f", {"type": 1})), [TIME], tools) == 0.0


def test_each_item_once_is_checked_in_bounded_time() -> None:
    tools = [{"name": "f", "parameters": {"type": "object", "properties": {"a": {"uniqueItems": True}}}}]
    items: list[Any] = [[number] for number in range(8_000)]
    items[::2] = [str(number) for number in range(4_000)]

    def work() -> None:
        assert schema_reward(said(Call("f", {"a": items})), [TIME], tools) == 1.0
        assert schema_reward(said(Call("f", {"a": [*items, "3"]})), [TIME], tools) == 0.0

    assert seconds(work) < 1


@given(st.text() | JSON.map(json.dumps), st.lists(st.builds(Call, st.text(), st.dictionaries(st.text(), JSON))), JSON)
def test_every_score_is_a_share(completion: str, expected: list[Call], tools: Any) -> None:
    for scorer in SCORERS.values():
        assert 0 <= scorer(completion, expected, tools) <= 1


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("number", range(len(JUNK)))
def test_a_million_signs_take_no_time(name: str, number: int) -> None:
    expected = [Call("a", {"a": [1] * 32_001}), WEATHER]

    def work() -> None:
        assert 0 <= SCORERS[name](JUNK[number], expected, TOOLS) <= 1

    assert seconds(work) < 0.2
