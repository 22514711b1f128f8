"""The two base models: strict for what people send, tolerant for what services answer."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Request(BaseModel):
    """Something sent to us: unknown fields are refused, camelCase and snake_case are both taken."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, extra="forbid"
    )


class Answer(BaseModel):
    """Something we say: camelCase outside, and a newer server may say more than an older client knows."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, extra="ignore"
    )
