"""Parameters and answers that every list shares."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, StringConstraints

Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]{0,18}$")]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
_CURSOR = "The `nextCursor` of the page before."
IdCursor = Annotated[UUID | None, Query(alias="cursor", description=_CURSOR)]
NumberCursor = Annotated[Digits, Query(alias="cursor", description=_CURSOR)]
Cursor = Annotated[Text | None, Query(description=_CURSOR)]
ProjectQuery = Annotated[Text | None, Query(description="One project; an admin key otherwise sees all.")]


def next_cursor(rows: Sequence[Any], limit: int, last: Any) -> str | None:
    """A full page may have a next one; a short one has not."""
    return str(last) if len(rows) == limit else None


def answer(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Written by pydantic once; the endpoint's response_model only documents it."""
    return Response(model.model_dump_json(by_alias=True), status, headers, media_type="application/json")
