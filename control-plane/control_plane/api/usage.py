"""Usage over REST, as JSON or as a table for spreadsheets."""

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import StringConstraints

from control_plane.api.context import AnyCaller, Here
from control_plane.api.pages import Day, Limit, NumberCursor, ProjectQuery, Text, answer, next_cursor
from control_plane.problems import not_found
from control_plane.usage import reading
from control_plane.usage.reading import GROUPS, Filters
from imts_shared.contracts.access import Role
from imts_shared.contracts.usage import UsageLine, UsagePage

router = APIRouter(prefix="/api/usage", tags=["usage"])

CSV = "text/csv"
MOST_CSV_LINES = 100_000
_NAME = f"({'|'.join(GROUPS)})"
By = Annotated[
    str,
    StringConstraints(pattern=rf"^{_NAME}(,{_NAME}){{0,{len(GROUPS) - 1}}}$"),
    Query(description=f"What to tell apart, with commas between: {', '.join(GROUPS)}."),
]
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {CSV: {"schema": {"type": "string"}}},
        "description": "`Accept: text/csv` gives all lines.",
    }
}


@router.get(
    "",
    response_model=UsagePage,
    responses=DOCUMENTED,
    operation_id="usage",
    summary="What was asked of models: requests, tokens and cost",
)
async def usage(
    request: Request,
    here: Here,
    caller: AnyCaller,
    by: By = "day,model",
    since: Annotated[Day | None, Query(alias="from", description="The first day, in UTC.")] = None,
    until: Annotated[Day | None, Query(alias="to", description="The last day, in UTC.")] = None,
    project: ProjectQuery = None,
    key: Annotated[Text | None, Query(description="A key's id.")] = None,
    model: Annotated[Text | None, Query(description="The model that answered.")] = None,
    upstream: Annotated[Text | None, Query(description="A provider's name, or `deployment`.")] = None,
    cursor: NumberCursor = "",
    limit: Limit = 100,
) -> Response:
    """The newest day first. `total` is over all pages. Usage is known some seconds after the answer. A key of role
    inference sees its own alone."""
    inside = caller.reads_in(project)
    if caller.role == Role.inference:
        if key not in {None, str(caller.key_id)}:
            raise not_found("key", str(key))
        key = str(caller.key_id)
    filters = Filters(inside, key, model, upstream, since, until)
    groups = by.split(",")
    as_table = CSV in request.headers.get("accept", "")
    offset, most = (0, MOST_CSV_LINES) if as_table else (int(cursor or 0), limit)
    async with here.database.transaction() as session:
        lines = await reading.lines(session, groups, filters, offset, most)
        total = await reading.total(session, filters)
    if as_table:
        return Response(_table(lines), media_type=CSV)
    following = next_cursor(lines, limit, offset + limit)
    return answer(UsagePage(items=list(lines), total=total, next_cursor=following))


def _table(lines: Sequence[UsageLine]) -> str:
    names = {name: field.alias or name for name, field in UsageLine.model_fields.items()}
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(names.values())
    table.writerows([_cell(getattr(line, name)) for name in names] for line in lines)
    return written.getvalue()


def _cell(value: object) -> object:
    """A spreadsheet must not take a name for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
