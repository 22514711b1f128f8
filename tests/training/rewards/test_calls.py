import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.rewards.taking import seconds
from training_service.rewards.calls import (
    Call,
    answer_text,
    calls_text,
    completion_text,
    expected_answer,
    expected_calls,
    read_calls,
)

WEATHER = Call("weather", {"city": "Bern", "days": 3})
TIME = Call("time", {})
ONE = '{"name": "weather", "arguments": {"city": "Bern", "days": 3}}'
NONE = '{"name": "time", "arguments": {}}'


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{ONE}\n</tool_call>",
        f"<tool_call>{ONE}</tool_call><|im_end|>",
        f"<tool_call>\n{ONE}",
        f"I shall look.\n<tool_call>\n{ONE}\n</tool_call>\nThere.",
        f"<think>shall I <tool_call>{NONE}</tool_call>?</think>\n<tool_call>{ONE}</tool_call>",
        f"shall I {NONE}?</think>{ONE}",
        ONE,
        f"  [{ONE}]  ",
        f"Surely: {ONE}. Anything else?",
        f"Surely:\n```json\n{ONE}\n```\nDone.",
        f"```\n[{ONE}]\n```",
        '{"function": {"name": "weather", "arguments": "{\\"city\\": \\"Bern\\", \\"days\\": 3}"}}',
        '{"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Bern", "days": 3}}}',
        '{"tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Bern", "days": 3}}}]}',
        '{"name": "weather", "arguments": "{\\"city\\": \\"Bern\\", \\"days\\": 3}"}',
        '{"name": "weather", "parameters": {"city": "Bern", "days": 3}}',
        '{"arguments": {"city": "Bern", "days": 3}, "name": " weather "}',
        'Numbers {1, 2} and {"a": [1]} first: ' + ONE,
    ],
)
def test_one_call(text: str) -> None:
    assert read_calls(text) == ((WEATHER,), 0)


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>{ONE}</tool_call>\n<tool_call>{NONE}</tool_call>",
        f"<tool_call>[{ONE}, {NONE}]</tool_call>",
        f"[{ONE}, {NONE}]",
        f"{ONE}\n{NONE}",
        f"```json\n{ONE}\n```\nand\n```json\n{NONE}\n```",
    ],
)
def test_several_calls(text: str) -> None:
    assert read_calls(text) == ((WEATHER, TIME), 0)


@pytest.mark.parametrize("arguments", ["null", '""', "{}"])
def test_no_arguments(arguments: str) -> None:
    assert read_calls(f'{{"name": "time", "arguments": {arguments}}}').calls == (TIME,)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("<tool_call>", 1),
        ("<tool_call>{</tool_call>", 1),
        (f"<tool_call>{ONE}}}</tool_call>", 1),
        ('<tool_call>{"name": "weather"}</tool_call>', 1),
        ("<tool_call>\"weather\"</tool_call><tool_call>{'name': 1}</tool_call>", 2),
        ('{"name": "weather", "arguments": {"city": ', 1),
        ('{"name": "weather", "arguments": "no object"}', 1),
        ('{"name": "weather", "arguments": [1]}', 1),
        ('{"name": "weather", "arguments": {"days": NaN}}', 1),
        ('{"name": "", "arguments": {}}', 1),
        ('{"name": "weather", "arguments": ' + '{"a": ' * 40 + "1" + "}" * 41, 1),
    ],
)
def test_a_call_gone_wrong(text: str, broken: int) -> None:
    assert read_calls(text) == ((), broken)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The weather is fine.",
        "<think>",
        f"<think>I could {ONE}",
        '{"name": "Bern"}',
        '[{"name": "Bern", "people": 3}]',
        "{}",
        "[]",
        "[[[",
        "{{{",
        "null",
        '{"id": 3}',
    ],
)
def test_no_call(text: str) -> None:
    assert read_calls(text) == ((), 0)


def test_long_thoughts_come_before_a_call() -> None:
    assert read_calls(f"<think>{'hm. ' * 100_000}</think>{ONE}").calls == (WEATHER,)


def test_a_list_with_something_else_in_it() -> None:
    assert read_calls(f"[{ONE}, 3]") == ((WEATHER,), 1)


@pytest.mark.parametrize("tag", ["</tool_call>", "<tool_call>", "<think>", "</think>", "```"])
@pytest.mark.parametrize("around", ["<tool_call>{}</tool_call>", "{}", "<think>a</think>\n<tool_call>{}</tool_call>"])
def test_a_call_whose_argument_holds_tags(tag: str, around: str) -> None:
    call = Call("write", {"text": f"a {tag} b"})
    assert read_calls(around.format(json.dumps(call._asdict()))) == ((call,), 0)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": ONE}]},
        {"messages": [{"role": "assistant", "content": f"<tool_call>{ONE}</tool_call>"}]},
        {
            "messages": [
                {"role": "user", "content": "?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Bern", "days": 3}'},
                        }
                    ],
                },
                {"role": "tool", "content": "fine"},
            ]
        },
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"function": {"name": "weather", "arguments": {"city": "Bern", "days": 3, "land": None}}}
                    ],
                }
            ]
        },
        {
            "messages": [
                {"role": "assistant", "function_call": {"name": "weather", "arguments": {"city": "Bern", "days": 3}}}
            ]
        },
        {"messages": [{"role": "assistant", "content": [{"type": "text", "text": ONE}]}]},
        {"conversations": [{"from": "human", "value": "?"}, {"from": "function_call", "value": ONE}]},
        {
            "conversations": [
                {
                    "from": "gpt",
                    "value": "<tool_call>\n{'name': 'weather', 'arguments': {'city': 'Bern', 'days': 3}}\n</tool_call>",
                }
            ]
        },
        {"instruction": "?", "input": "", "output": ONE},
        {"output": f"<tool_call>\n{ONE}\n</tool_call>"},
        {"answers": f"[{ONE}]"},
        {"expected": json.loads(ONE), "output": "ignored"},
        {"expected": [json.loads(ONE)]},
        {"expected": None, "output": ONE},
    ],
)
def test_expected_calls(row: dict[str, Any]) -> None:
    assert expected_calls(row) == ((WEATHER,), 0)
    assert expected_calls(expected_answer(row)) == ((WEATHER,), 0)


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"output": "Fine."}, "Fine."),
        ({"messages": [{"role": "assistant", "content": ONE}, {"role": "assistant", "content": "Fine."}]}, "Fine."),
        ({"messages": [{"role": "user", "content": ONE}]}, ""),
        ({"messages": 3}, ""),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": None}]}, ""),
        ({"conversations": [{"from": "gpt", "value": "Fine."}]}, "Fine."),
        ({"instruction": ONE}, ""),
        ({}, ""),
    ],
)
def test_nothing_is_expected(row: dict[str, Any], answer: str) -> None:
    assert expected_answer(row) == answer
    assert expected_calls(row) == ((), 0)


def test_an_expected_call_that_cannot_be_read() -> None:
    assert expected_calls({"output": "<tool_call>{oh dear</tool_call>"}) == ((), 1)


def test_completions_as_messages() -> None:
    assert completion_text("a") == "a"
    assert completion_text([{"role": "assistant", "content": "a"}]) == "a"
    called = completion_text([{"role": "assistant", "content": "", "tool_calls": [{"function": WEATHER._asdict()}]}])
    assert read_calls(called).calls == (WEATHER,)
    assert completion_text(3) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.text(min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.builds(Call, NAMES, st.dictionaries(st.text(), JSON, max_size=4)), min_size=1, max_size=4))
def test_what_is_written_is_read(calls: list[Call]) -> None:
    assert read_calls("".join(f"<tool_call>\n{calls_text([call])}\n</tool_call>\n" for call in calls)) == (
        tuple(calls),
        0,
    )


@given(st.text() | JSON.map(json.dumps) | st.text("{}[]\"':,name<tool_call>/\\ 1", max_size=200))
@settings(max_examples=300)
def test_any_text_is_read(text: str) -> None:
    read_calls(text)
    expected_calls(text)


@given(JSON, st.dictionaries(st.sampled_from(["messages", "conversations", "output", "expected", "answers"]), JSON))
def test_any_row_is_read(value: Any, row: dict[str, Any]) -> None:
    answer_text(value)
    completion_text(value)
    expected_calls(row)


JUNK = [
    "x" * 1_000_000,
    "{" * 1_000_000,
    "[" * 1_000_000,
    " " * 1_000_000,
    '{"name":' * 125_000,
    '{"name":"a","arguments":{"a":' * 34_000,
    '[{"name":1,' * 90_000,
    '[{"name":"' + "1,[" * 333_000,
    "<tool_call>" * 90_000,
    "<tool_call>{" * 83_000,
    "<tool_call>[1,[" * 66_000,
    '<tool_call>["' + "<tool_call>[1," * 66_000,
    "<tool_call>1" * 80_000,
    "<tool_call>{}</tool_call>" * 40_000,
    ("<tool_call>" + " " * 1000) * 1000,
    "<think>" * 140_000,
    "```json\n{" * 110_000,
    '{"name":"a","arguments":{}}' * 37_000,
    '{"name":"a","arguments":{"a":[' + "1," * 490_000,
    '{"name":"a","arguments":{"a":[' + "1," * 32_000 + "1]}}" + "1" * 900_000,
    '{"name":"a","arguments":{"a":' + "9" * 1_000_000,
    '{ "name": "a", "arguments": {"a": "' + "ab\u0316\u0300" * 250_000,
    "🦊é" * 500_000,
    "\ud800" * 1_000_000,
]


@pytest.mark.parametrize("number", range(len(JUNK)))
def test_a_million_signs_take_no_time(number: int) -> None:
    assert seconds(lambda: read_calls(JUNK[number])) < 0.2
