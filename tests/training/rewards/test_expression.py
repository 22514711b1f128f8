"""Rewards as expressions."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.rewards.taking import seconds
from training_service.rewards.calls import Call
from training_service.rewards.expression import expression
from training_service.rewards.row import RewardError, Row

SAID = '{"name": "time", "arguments": {}}'
ROW = Row(SAID, "What time is it?", SAID, (Call("time", {}),), [{"name": "time"}])


@pytest.mark.parametrize(
    ("source", "reward"),
    [
        ("0.5*format + 0.5*schema", 1),
        ("name", 1),
        ("arg_keys + arg_values", 2),
        ("min(length, 3) - max(1, 2)", 1),
        ("abs(-2)", 2),
        ("len(completion) == length", 1),
        ("1 if contains(completion, 'time') else 0", 1),
        ("'time' in completion and completion == expected", 1),
        ("'cat' not in lower(prompt)", 1),
        ("startswith(prompt, 'What') + endswith(prompt, '?')", 2),
        ("count(completion, '\"') / 2", 3),
        ("length * 1000", 10),
        ("-2 ** 15", -10),
        ("1e308 * 1e308", 10),
        ("9 " * 0 + "9" * 1500, 10),
        ("7 // 2 % 2 == 1 and not format < 1", 1),
        (" 1 ", 1),
    ],
)
def test_expressions(source: str, reward: float) -> None:
    found = expression(source)(ROW, 1)
    assert found == reward
    assert type(found) is float


def test_a_row_whose_expected_answer_cannot_be_read_is_worth_nothing() -> None:
    assert expression("format")(Row("fine", "", "<tool_call>{", (), None, readable=False), 1) == 0.0


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("fromat", "did you mean `format`"),
        ("zzzzz", "there are completion, prompt"),
        ("lenght(completion)", "unknown function"),
        ("contians(completion, 'a')", "did you mean `contains`"),
        ("format(1)", "unknown function"),
        ("min", "unknown name"),
        ("completion", "must give a number"),
        ("'a'", "must give a number"),
        ("completion + 1", "a number is needed"),
        ("'ab' * 1000000000", "a number is needed"),
        ("'%1000000000d' % 1", "a number is needed"),
        ("len(3)", "a text is needed"),
        ("contains(completion)", "takes 2"),
        ("min(1)", "takes 2 to 16"),
        ("completion > 1", "cannot be compared"),
        ("1 if format else completion", "must give a number"),
        ("completion.upper()", "attributes"),
        ("().__class__", "attributes"),
        ("completion[0]", "[...]"),
        ("[x for x in completion]", "comprehensions"),
        ("len([1])", "lists"),
        ("f'{completion}'", "f-texts"),
        ("(lambda: 1)()", "something other than a function"),
        ("lower(completion)()", "something other than a function"),
        ("min(1, *completion)", "Starred"),
        ("len(s=completion)", "by their place"),
        ("9 ** 17", "power above 16"),
        ("9 ** 9 ** 9", "power"),
        ("10000000 ** 2", "base"),
        ("(0 - 1) ** 0.5", "no such root"),
        ("1 << 99", "LShift"),
        ("None", "numbers and texts"),
        ("1j", "numbers and texts"),
        ("b'a'", "numbers and texts"),
        ("x := 1", "one expression"),
        ("(x := 1)", "assignments"),
        ("a = 1", "one expression"),
        ("1; 2", "one expression"),
        ("import os", "one expression"),
        ("", "one expression"),
        ("\x00", "one expression"),
        ("(" * 1500, "one expression"),
        ("-" * 1900 + "1", "parts"),
        ("1+" * 400 + "1", "parts"),
        ("1" * 2001, "shorten"),
        ("__import__('os')", "unknown function"),
    ],
)
def test_expressions_that_are_refused(source: str, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        expression(source)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("1 / (length - 33)", "zero"),
        ("(length + 1e6 - 32) ** 2", "base"),
        ("completion if length == 33 else 1", "a text"),
        ("lower(3) if length == 33 else 1", "a text is needed"),
        ("(1e308 * 1e308 - 1e308 * 1e308) if length == 33 else 1", "nan"),
    ],
)
def test_an_expression_that_fails_on_a_row_says_which(source: str, says: str) -> None:
    with pytest.raises(RewardError, match=r"^Row 7: ") as failed:
        expression(source)(ROW, 7)
    assert says in str(failed.value)


@given(st.text("abcdefgnotil+-*/%(),.'\"<>= 0123456789[]{}_:", max_size=60))
def test_any_text_is_an_expression_or_refused(source: str) -> None:
    try:
        evaluate = expression(source)
    except ValueError:
        return
    with contextlib.suppress(RewardError):
        assert -10 <= evaluate(ROW, 1) <= 10


def test_a_long_completion_is_worked_out_in_bounded_time() -> None:
    row = ROW._replace(completion="{" * 1_000_000)

    def work() -> None:
        assert expression("count(lower(completion), '{') + format + schema")(row, 1) == 10

    assert seconds(work) < 0.5
