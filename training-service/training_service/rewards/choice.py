"""From the rewards a request chooses to the functions TRL's GRPO calls."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from imts_shared.contracts.tokens import SERVICES
from training_service.rewards.calls import completion_text, expected_answer, expected_calls
from training_service.rewards.endpoint import (
    Endpoint,
    check_header,
    check_url,
    endpoint_rewards,
    is_address,
    is_internal,
)
from training_service.rewards.expression import expression
from training_service.rewards.function_calling import SCORERS
from training_service.rewards.row import RewardError, Row, score
from training_service.rewards.tools import read_tools

MOST_REWARDS = 16
NAMES = ", ".join(SCORERS)
NOT_ROW_COLUMNS = frozenset({"trainer_state", "completion_ids"})


class RewardChoice(BaseModel):
    """One of the five by its name, or one's own: an expression or an endpoint, whose name is what it is reported as."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, extra="forbid", frozen=True
    )

    name: str | None = None
    weight: Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)] = 1.0
    expression: Annotated[str, Field(min_length=1)] | None = None
    endpoint: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    header: str | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 30.0
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 64

    @field_validator("weight", "timeout_seconds", "batch_size", mode="before")
    @classmethod
    def numbers_are_numbers(cls, value: Any) -> Any:
        if isinstance(value, bool | str):
            raise ValueError(f"must be a number, not {'text' if isinstance(value, str) else 'true or false'}")
        return value

    @field_validator("expression")
    @classmethod
    def expression_can_be_worked_out(cls, value: str | None) -> str | None:
        if value is not None:
            expression(value)
        return value

    @field_validator("endpoint")
    @classmethod
    def endpoint_is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            check_url(value)
        return value

    @field_validator("header")
    @classmethod
    def header_is_a_name(cls, value: str | None) -> str | None:
        if value is not None:
            check_header(value, None)
        return value

    @model_validator(mode="after")
    def one_thing_is_chosen(self) -> "RewardChoice":
        if self.expression is not None and self.endpoint is not None:
            raise ValueError("has both expression and endpoint; make two rewards of it")
        if self.expression is None and self.endpoint is None:
            _check_known(self.name)
        elif self.name in SCORERS:
            raise ValueError(f"name: `{self.name}` is a reward of its own; give yours another name")
        elif self.name in SERVICES:
            raise ValueError(f"name: `{self.name}` is a service whose token no reward is given; choose another name")
        elif self.name is not None and not (self.name.isidentifier() and self.name.isascii() and len(self.name) <= 40):
            raise ValueError("name: use up to 40 letters, digits and _, not beginning with a digit")
        if self.endpoint is None:
            given = self.model_fields_set & {"header", "timeout_seconds", "batch_size"}
            if given:
                raise ValueError(f"{to_camel(min(given))}: goes with an endpoint alone; leave it out")
        return self


def _check_known(name: str | None) -> None:
    if name is None:
        raise ValueError(f"chooses nothing; give a name ({NAMES}), an expression or an endpoint")
    if name not in SCORERS:
        near = get_close_matches(name, SCORERS, n=1)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise ValueError(f"name: there is no reward `{name[:50]}`; {hint}There are {NAMES}.")


def _spelled_out(value: Any) -> Any:
    if value is None:
        return [{"name": name} for name in SCORERS]
    if isinstance(value, str | Mapping):
        value = [value]
    if isinstance(value, list | tuple):
        return [{"name": item} if isinstance(item, str) else item for item in value]
    return value


def _told_apart(choices: list[RewardChoice]) -> list[RewardChoice]:
    if not choices:
        raise ValueError("is empty; choose a reward, or leave the field out for the five built-in ones")
    if len(choices) > MOST_REWARDS:
        raise ValueError(f"holds {len(choices)} rewards; choose at most {MOST_REWARDS}")
    chosen = [choice.name for choice in choices if choice.name is not None]
    twice = next((name for name in chosen if chosen.count(name) > 1), None)
    if twice:
        raise ValueError(f"names `{twice}` twice; keep one and give it the weight of both")
    if not any(choice.weight for choice in choices):
        raise ValueError("gives every reward the weight 0; give at least one another weight")
    return choices


RewardChoices = Annotated[list[RewardChoice], BeforeValidator(_spelled_out), AfterValidator(_told_apart)]
_ADAPTER: TypeAdapter[list[RewardChoice]] = TypeAdapter(RewardChoices)


def read_choices(value: Any = None, field: str = "rewards") -> list[RewardChoice]:
    """The rewards a request chooses, nothing for the five; ValueError names each field and what to do about it."""
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as wrong:
        raise ValueError("; ".join(_problem(dict(error), field) for error in wrong.errors())) from None


def check_public(url: str, place: str) -> None:
    """An address that is written out is judged at once; what a name leads to is judged when it is asked."""
    host = check_url(url).host
    written = host.strip("[]")
    if host == "localhost" or host.endswith(".localhost") or (is_address(written) and is_internal(written)):
        raise ValueError(f"{place}: lies on this machine or in a private network, which only an admin can allow")


def _problem(error: dict[str, Any], field: str) -> str:
    place = field + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = [to_camel(name) for name in RewardChoice.model_fields]
        near = get_close_matches(str(error["loc"][-1]), known, n=1)
        return f"{place}: is not known; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}")
    return f"{place}: {str(error['msg']).removeprefix('Value error, ')}"


RewardFunction = Callable[..., list[float]]


class Rewards(NamedTuple):
    """What GRPOTrainer and GRPOConfig take: reward_funcs, reward_weights, and the names the metrics carry."""

    functions: list[RewardFunction]
    weights: list[float]
    names: list[str]


def build(
    choices: Sequence[RewardChoice], secrets: Mapping[str, str] | None = None, allow_internal: bool = False
) -> Rewards:
    """The chosen rewards ready to be called; `secrets` holds header values by the reward's name."""
    names = reward_names(choices)
    functions = [
        _named(name, _function(choice, (secrets or {}).get(name), name, allow_internal))
        for name, choice in zip(names, choices, strict=True)
    ]
    return Rewards(functions, [choice.weight for choice in choices], names)


def reward_names(choices: Sequence[RewardChoice]) -> list[str]:
    """The name of each; those without get `expression` or `endpoint`, numbered from the second on."""
    names: list[str] = []
    taken = {choice.name for choice in choices}
    for choice in choices:
        kind = "expression" if choice.expression is not None else "endpoint"
        numbered = (kind if number == 1 else f"{kind}_{number}" for number in range(1, 2 * MOST_REWARDS + 2))
        names.append(choice.name or next(name for name in numbered if name not in taken))
        taken.add(names[-1])
    return names


def answer_columns(row: Mapping[str, Any]) -> dict[str, str]:
    """The two columns rewards read, as text, which no columnar file format fills with nulls."""
    functions = read_tools(row.get("tools", row.get("functions")))
    return {"expected": expected_answer(row), "tools": json.dumps(functions, ensure_ascii=False, default=str)}


def row_problem(row: Mapping[str, Any]) -> str | None:
    """Why a row teaches nothing: each of the five gives 0 to whatever is answered to it."""
    reading = expected_calls(row)
    if reading.broken and not reading.calls:
        return "The expected answer begins a function call that cannot be read."
    return None


def _named(name: str, function: RewardFunction) -> RewardFunction:
    function.__name__ = function.__qualname__ = name
    return function


def _function(choice: RewardChoice, secret: str | None, name: str, allow_internal: bool) -> RewardFunction:
    if choice.expression is not None:
        return _by_expression(choice.expression)
    if choice.endpoint is not None:
        return _by_endpoint(choice, secret, name, allow_internal)
    return _by_scorer(choice.name or "")


def _by_scorer(name: str) -> RewardFunction:
    def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        return [score(name, row) for row in _rows(prompts, completions, columns)]

    return reward


def _by_expression(source: str) -> RewardFunction:
    evaluate = expression(source)

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        return [evaluate(row, number) for number, row in enumerate(_rows(prompts, completions, columns), 1)]

    return reward


def _by_endpoint(choice: RewardChoice, secret: str | None, name: str, allow_internal: bool) -> RewardFunction:
    if choice.header is not None and secret is None:
        raise RewardError(f"The reward `{name}` sends the header {choice.header}, whose secret value is missing.")
    header = choice.header or "Authorization"
    endpoint = Endpoint(
        choice.endpoint or "", header, secret, choice.timeout_seconds, choice.batch_size, allow_internal
    )
    try:
        check_header(header, secret)
    except ValueError as wrong:
        raise RewardError(f"The header of the reward `{name}` {wrong}.") from None

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        rows = list(_rows(prompts, completions, columns))
        return endpoint_rewards(
            endpoint,
            list(prompts),
            [row.completion for row in rows],
            [row.expected for row in rows],
            [read_tools(row.tools) for row in rows],
        )

    return reward


def _rows(prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]) -> Iterator[Row]:
    if len(prompts) != len(completions):
        raise RewardError(f"There are {len(prompts)} prompts for {len(completions)} completions.")
    cells = {
        name: column
        for name, column in columns.items()
        if name not in NOT_ROW_COLUMNS and isinstance(column, Sequence) and not isinstance(column, str)
    }
    for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        row = {name: column[number] for name, column in cells.items() if number < len(column)}
        expected = expected_answer(row)
        reading = expected_calls(expected)
        tools = row.get("tools", row.get("functions"))
        readable = bool(reading.calls) or not reading.broken
        yield Row(completion_text(completion), completion_text(prompt), expected, reading.calls, tools, readable)
