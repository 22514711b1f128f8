import contextlib
import json
from typing import Any

import pytest
from hypothesis import given

from tests.training.rewards.test_calls import JSON
from tests.training.rewards.test_endpoint import Scorer, server
from training_service.rewards.calls import expected_calls
from training_service.rewards.choice import RewardChoice, answer_columns, build, read_choices, reward_names, row_problem
from training_service.rewards.function_calling import SCORERS
from training_service.rewards.row import RewardError

__all__ = ["server"]

CALL = {"name": "weather", "arguments": {"city": "Bern"}}
SAID = f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"]}}}]


def rewards(value: Any, completions: list[Any], **columns: Any) -> dict[str, list[float]]:
    built = build(read_choices(value))
    prompts = ["?"] * len(completions)
    return {
        function.__name__: function(prompts=prompts, completions=completions, **columns) for function in built.functions
    }


def every(values: list[float]) -> dict[str, list[float]]:
    return {name: list(values) for name in SCORERS}


def test_the_five_are_the_default() -> None:
    built = build(read_choices())
    assert built.names == ["format", "name", "arg_keys", "arg_values", "schema"]
    assert built.weights == [1.0] * 5
    assert [function.__name__ for function in built.functions] == built.names


def test_a_request() -> None:
    choices = read_choices(
        [
            "format",
            {"name": "schema", "weight": 2},
            {"expression": "0.5*format+0.5*schema"},
            {"endpoint": "https://rewards.example.com/score", "timeoutSeconds": 5, "batchSize": 8},
            {"name": "short", "expression": "-length/1000", "weight": -0.5},
            {"expression": "name"},
        ]
    )
    assert [choice.weight for choice in choices] == [1, 2, 1, 1, -0.5, 1]
    assert reward_names(choices) == ["format", "schema", "expression", "endpoint", "short", "expression_2"]
    assert read_choices([choice.model_dump(exclude_unset=True) for choice in choices]) == choices
    assert build(choices).names == reward_names(choices)


def test_one_name_stands_for_a_list_of_one() -> None:
    assert read_choices("name") == read_choices(["name"]) == [RewardChoice(name="name")]


def test_given_names_are_not_taken_twice() -> None:
    choices = read_choices([{"expression": "1"}, {"name": "expression", "expression": "2"}])
    assert reward_names(choices) == ["expression_2", "expression"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (["fromat"], "rewards[0]: name: there is no reward `fromat`; did you mean `format`?"),
        (["format", {"name": "schema", "weight": "2"}], "rewards[1].weight: must be a number, not text"),
        ([{"name": "schema", "weight": True}], "rewards[0].weight: must be a number, not true or false"),
        ([{"name": "schema", "weight": 1e9}], "rewards[0].weight: "),
        ([{"name": "schema", "weight": float("nan")}], "rewards[0].weight: "),
        ([{"name": "schema", "wieght": 2}], "rewards[0].wieght: is not known; did you mean weight?"),
        ([{}], "rewards[0]: chooses nothing; give a name"),
        ([{"weight": 2}], "rewards[0]: chooses nothing"),
        ([{"expression": "fromat"}], "rewards[0].expression: uses the unknown name `fromat`; did you mean `format`?"),
        ([{"expression": ""}], "rewards[0].expression: "),
        ([{"expression": 3}], "rewards[0].expression: "),
        ([{"endpoint": "ftp://a"}], "rewards[0].endpoint: must begin with http:// or https://"),
        ([{"endpoint": "https://a", "expression": "1"}], "make two rewards of it"),
        ([{"endpoint": "https://a", "header": "a b"}], "rewards[0].header: is no header name"),
        ([{"endpoint": "https://a", "timeoutSeconds": 0}], "rewards[0].timeoutSeconds: "),
        ([{"name": "format", "batchSize": 3}], "batchSize: goes with an endpoint alone"),
        ([{"name": "format", "expression": "1"}], "give yours another name"),
        ([{"name": "huggingface", "endpoint": "https://a"}], "a service whose token no reward is given"),
        ([{"name": "a/b", "expression": "1"}], "letters, digits"),
        (["format", "format"], "rewards: names `format` twice"),
        ([{"name": "a", "expression": "1"}, {"name": "a", "expression": "2"}], "rewards: names `a` twice"),
        ([{"name": "format", "weight": 0}], "weight 0"),
        ([], "rewards: is empty"),
        ([{"expression": "1"}] * 17, "at most 16"),
        (3, "rewards: "),
        ([3], "rewards[0]: "),
        ([None], "rewards[0]: "),
    ],
)
def test_requests_that_are_refused(value: Any, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        read_choices(value)
    assert says in str(refused.value)
    assert "Value error" not in str(refused.value)


@given(JSON)
def test_any_request_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(ValueError):
        build(read_choices(value))


@pytest.mark.parametrize(
    "columns",
    [
        {"messages": [[{"role": "assistant", "content": "", "tool_calls": [{"function": CALL}]}]], "tools": [TOOLS]},
        {"conversations": [[{"from": "function_call", "value": json.dumps(CALL)}]], "tools": [json.dumps(TOOLS)]},
        {"output": [SAID], "functions": [TOOLS]},
        {"expected": [json.dumps([CALL])], "tools": [json.dumps(TOOLS)]},
        {"expected": [[CALL]], "tools": [TOOLS]},
    ],
)
@pytest.mark.parametrize("completion", [SAID, [{"role": "assistant", "content": SAID}]])
def test_called_as_trl_calls(columns: dict[str, Any], completion: Any) -> None:
    more = {"trainer_state": object(), "completion_ids": [[1, 2]]}
    assert rewards(None, [completion], **columns, **more) == every([1.0])


def test_each_completion_is_judged_by_its_own_row() -> None:
    columns = {"expected": [json.dumps([CALL]), "It rains.", json.dumps([CALL])], "tools": [TOOLS] * 3}
    assert rewards(None, [SAID, SAID, "It rains."], **columns) == every([1.0, 0.0, 0.0])


def test_without_any_column_nothing_is_expected() -> None:
    assert rewards("format", ["It rains.", SAID]) == {"format": [1.0, 0.0]}
    assert rewards("format", []) == {"format": []}


def test_a_row_that_cannot_be_read_teaches_nothing() -> None:
    columns = {"output": ["<tool_call>{"] * 3}
    assert rewards(None, [SAID, "", "It rains."], **columns) == every([0.0] * 3)
    assert row_problem({"output": "<tool_call>{"}) is not None
    assert row_problem({"output": SAID}) is None
    assert row_problem({"output": "It rains."}) is None


def test_the_columns_made_of_a_row_say_the_same() -> None:
    row = {
        "messages": [
            {"role": "assistant", "tool_calls": [{"function": {**CALL, "arguments": json.dumps(CALL["arguments"])}}]}
        ],
        "tools": TOOLS,
    }
    columns = answer_columns(row)
    assert all(isinstance(value, str) for value in columns.values())
    assert expected_calls(columns) == expected_calls(row)
    assert rewards(None, [SAID], **{name: [value] for name, value in columns.items()}) == every([1.0])


def test_an_expression_says_which_row_it_failed_on() -> None:
    assert rewards([{"expression": "length + format"}], ["a", "bb"]) == {"expression": [2.0, 3.0]}
    with pytest.raises(RewardError, match=r"^Row 2: .*zero"):
        rewards([{"expression": "1 / (length - 2)"}], ["a", "bb"])


def test_an_expression_knows_prompt_and_expected_as_texts() -> None:
    (function,) = build(
        read_choices([{"expression": "contains(prompt, 'sun') + contains(completion, expected)"}])
    ).functions
    prompts = [[{"role": "user", "content": "Any sun?"}], "Any sun?"]
    assert function(prompts=prompts, completions=["No sun.", "No."], output=["sun", "sun"]) == [2.0, 1.0]


def test_prompts_and_completions_must_match() -> None:
    (function,) = build(read_choices("format")).functions
    with pytest.raises(RewardError, match="1 prompts for 2 completions"):
        function(prompts=["a"], completions=["a", "b"])


def test_an_endpoint(server: str) -> None:
    choices = read_choices([{"name": "mine", "endpoint": server, "header": "X-Key", "batchSize": 1}])
    built = build(choices, secrets={"mine": "s3cret"}, allow_internal=True)
    prompts = [[{"role": "user", "content": "?"}]] * 2
    given_rewards = built.functions[0](
        prompts=prompts,
        completions=["a", [{"role": "assistant", "content": "bb"}]],
        output=["c", "d"],
        tools=[TOOLS] * 2,
    )
    assert given_rewards == [1.0, 2.0]
    assert built.names == ["mine"]
    assert [asked["headers"]["X-Key"] for asked in Scorer.asked] == ["s3cret", "s3cret"]
    assert Scorer.asked[1]["body"] == {
        "prompts": [[{"role": "user", "content": "?"}]],
        "completions": ["bb"],
        "expected": ["d"],
        "tools": [[TOOLS[0]["function"]]],
    }


def test_an_endpoint_inside_is_refused_unless_allowed(server: str) -> None:
    (function,) = build(read_choices([{"endpoint": server}])).functions
    with pytest.raises(RewardError, match="not allowed"):
        function(prompts=["a"], completions=["a"])
    assert Scorer.asked == []


def test_a_header_needs_its_secret() -> None:
    choices = read_choices([{"endpoint": "https://a.example", "header": "X-Key"}])
    with pytest.raises(RewardError, match="X-Key, whose secret value is missing"):
        build(choices)
    with pytest.raises(RewardError) as wrong:
        build(choices, secrets={"endpoint": "s3cret\n"})
    assert "s3cret" not in str(wrong.value)
