"""The two base models: strict for what people send, tolerant for what services answer."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel

ProjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


def _numeric(annotation: Any) -> bool:
    return annotation in (int, float) or any(_numeric(part) for part in get_args(annotation))


class Request(BaseModel):
    """Something sent to us: unknown fields are refused, camelCase and snake_case are both taken."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic alone would take `true` for 1 and "3" for 3."""
        name = info.field_name
        if isinstance(value, bool | str) and name is not None and _numeric(cls.model_fields[name].annotation):
            raise ValueError(f"must be a number, not {'text' if isinstance(value, str) else 'true or false'}")
        return value


class Answer(BaseModel):
    """Something we say: camelCase outside, and a newer server may say more than an older client knows."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, extra="ignore")
