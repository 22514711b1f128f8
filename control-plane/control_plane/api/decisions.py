"""What was decided on routes, over REST: to look into, and to replay with other settings."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from control_plane.api.context import Here, Reader
from control_plane.api.pages import Cursor, FromQuery, Limit, ProjectQuery, Text, ToQuery, answer, next_cursor
from control_plane.routing import reading
from imts_shared.contracts.routes import DecisionLine, DecisionPage

router = APIRouter(prefix="/api/routing/decisions", tags=["routes"])


@router.get(
    "", response_model=DecisionPage, operation_id="list_decisions", summary="List what was decided, newest first"
)
async def list_decisions(
    here: Here,
    caller: Reader,
    route: Annotated[Text | None, Query(description="A route's name, such as auto.")] = None,
    model: Annotated[Text | None, Query(description="The model that was chosen.")] = None,
    since: FromQuery = None,
    until: ToQuery = None,
    project: ProjectQuery = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """Each with its features, its candidates' scores and propensities, its reason, its result and its feedback."""
    filters = reading.Filters(caller.reads_in(project), route, model, since, until)
    async with here.database.transaction() as session:
        items = await reading.find(session, filters, cursor, limit)
    last = items[-1].decision_id if items else None
    return answer(DecisionPage(items=items, next_cursor=next_cursor(items, limit, last)))


@router.get("/{decision_id}", response_model=DecisionLine, operation_id="get_decision", summary="Show a decision")
async def get_decision(
    here: Here, caller: Reader, decision_id: Annotated[str, Path(max_length=500, pattern=r"^[^\x00]+$")]
) -> Response:
    async with here.database.transaction() as session:
        return answer(await reading.get(session, decision_id, caller.project))
