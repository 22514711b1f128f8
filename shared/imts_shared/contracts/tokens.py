"""The tokens of a project: what its jobs show to model hubs, trackers and reward endpoints. Never read back."""

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, field_validator

from imts_shared.contracts.base import Answer, Request

SERVICES = ("huggingface", "modelscope", "wandb")
REWARD = "reward:"
_REWARD_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,39}"
_NAME = rf"^({'|'.join(SERVICES)}|{REWARD}(?!({'|'.join(SERVICES)})$){_REWARD_NAME})$"
_VALUE = r"^[!-~]([ -~]*[!-~])?$"


def known_name(name: str) -> str:
    """What was given stands in no message: somebody may have put the token where its name belongs."""
    if name.startswith(REWARD) and name.removeprefix(REWARD) in SERVICES:
        raise ValueError("a reward cannot have a service's name")
    if re.fullmatch(_NAME, name) is None:
        raise ValueError(f"must be {', '.join(SERVICES)}, or reward: and a reward's name (letters, digits and _)")
    return name


TokenName = Annotated[str, AfterValidator(known_name), WithJsonSchema({"type": "string", "pattern": _NAME})]


def secret_name(name: str) -> str:
    """The name under which an attempt finds the token: a reward's token under the reward's own."""
    return name.removeprefix(REWARD)


class TokenRequest(Request):
    value: SecretStr = Field(
        min_length=1,
        max_length=4096,
        description="Printable ASCII on one line. It is stored encrypted and never shown again.",
        json_schema_extra={"pattern": _VALUE},
    )

    @field_validator("value")
    @classmethod
    def value_is_one_line(cls, value: SecretStr) -> SecretStr:
        if re.fullmatch(_VALUE, value.get_secret_value()) is None:
            raise ValueError("must be printable ASCII on one line, without a space before or after it")
        return value


class Token(Answer):
    """That a token is there, and who set it when."""

    name: str
    set_at: datetime
    set_by: str = Field(description="The id of the API key that set it.")
    hint: str | None = Field(None, description="The last four characters of a value longer than twenty.")
    problem: str | None = Field(None, description="Why jobs do not get it, and what to do.")


class TokenPage(Answer):
    items: list[Token]
    next_cursor: str | None = None
