"""The one shape of every error (RFC 9457) and what a field's fault looks like."""

from typing import Literal

from pydantic import Field

from imts_shared.contracts.base import Answer


class FieldProblem(Answer):
    field: str
    code: str
    message: str
    hint: str | None = None


class FieldNote(Answer):
    """Something that a field's value leads to; `error` stops what was asked for, `warning` does not."""

    level: Literal["error", "warning"]
    field: str
    message: str
    hint: str | None = None


class Problem(Answer):
    """`application/problem+json`. `code` is stable: programs decide by it, people read `detail` and `hint`."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    field: str | None = Field(None, description="The first field at fault.")
    hint: str | None = Field(None, description="What to do about it.")
    errors: list[FieldProblem] | None = None
    request_id: str | None = None
