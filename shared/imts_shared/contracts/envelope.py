"""What every kind of job takes beside its own fields."""

from typing import Annotated

from pydantic import Field, StringConstraints

from imts_shared.contracts.base import Request

LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=255)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=64, json_schema_extra={"additionalProperties": False})]


class JobRequest(Request):
    """What every kind of job takes beside its own fields."""

    name: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        None, description="A name for people; it need not be unique."
    )
    project: str | None = Field(None, max_length=64, description="Only an admin key may name another project.")
    priority: int = Field(0, ge=-100, le=100, description="Higher goes first.")
    labels: Labels = Field(default_factory=dict)
    max_attempts: int = Field(3, ge=1, le=20, description="How often lost hardware is retried.")
    timeout_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = Field(
        None, description="Running time of one attempt."
    )
