"""Parameters and answers that every list shares."""

import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, StringConstraints, WithJsonSchema

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


def answers(models: Sequence[BaseModel]) -> Response:
    """A bare list."""
    written = ",".join(model.model_dump_json(by_alias=True) for model in models)
    return Response(f"[{written}]", media_type="application/json")


_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})")


def _day(given: object) -> object:
    """pydantic alone would take a number of seconds for a day."""
    if isinstance(given, str) and _DAY.fullmatch(given) is None:
        raise ValueError("is a date such as 2026-11-21")
    return given


def _moment(given: object) -> object:
    if not isinstance(given, str) or _MOMENT.fullmatch(given) is not None:
        return given
    if _DAY.fullmatch(given) is None:
        raise ValueError("is a date such as 2026-11-21, or a time such as 2026-11-21T20:15:00Z")
    return f"{given}T00:00:00Z"


def _end(given: object) -> object:
    if isinstance(given, str) and _DAY.fullmatch(given) is not None:
        return f"{given}T23:59:59.999999Z"
    return _moment(given)


_MOMENT_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
)
Day = Annotated[date, BeforeValidator(_day)]
From = Annotated[AwareDatetime, BeforeValidator(_moment), _MOMENT_SCHEMA]
To = Annotated[AwareDatetime, BeforeValidator(_end), _MOMENT_SCHEMA]
FromQuery = Annotated[From | None, Query(alias="from", description="Not before this date or time.")]
ToQuery = Annotated[To | None, Query(alias="to", description="Not after this time, or the end of this date.")]
