"""Parameters and answers that every list shares."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import AfterValidator, BaseModel, StringConstraints

from control_plane.database import parse_id
from control_plane.problems import Refusal


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL characters")
    return value


Text = Annotated[str, StringConstraints(max_length=500), AfterValidator(_no_nul)]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Cursor = Annotated[Text | None, Query(description="The `nextCursor` of the page before.")]
ProjectQuery = Annotated[Text | None, Query(description="One project; an admin key otherwise sees all.")]


def bad_cursor() -> Refusal:
    return Refusal(
        422,
        "bad_cursor",
        "This cursor was not given by us.",
        field="cursor",
        hint="Send a `nextCursor` unchanged.",
    )


def id_cursor(cursor: str | None) -> UUID | None:
    if cursor is None:
        return None
    identity = parse_id(cursor)
    if identity is None:
        raise bad_cursor()
    return identity


def number_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise bad_cursor()
    return int(cursor)


def next_cursor(rows: Sequence[Any], limit: int, last: Any) -> str | None:
    """A full page may have a next one; a short one has not."""
    return str(last) if len(rows) == limit else None


def answer(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Written by pydantic once; the endpoint's response_model only documents it."""
    return Response(model.model_dump_json(by_alias=True), status, headers, media_type="application/json")
