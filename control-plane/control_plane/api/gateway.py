"""What gateways tell and ask, with the services' key."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response
from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from control_plane.api.context import Here
from control_plane.api.internal import services_only
from control_plane.api.pages import answer, answers
from control_plane.api.requests import PartRoute, ReportRoute
from control_plane.gateway import parts, reports
from control_plane.gateway.kept import KeptFeedback
from control_plane.hints import LESSONS
from control_plane.routing import feedback, lessons
from control_plane.usage import limits
from imts_shared.contracts.routes import Lesson, Lessons
from imts_shared.contracts.usage import GatewayReport, ReportAnswer, SpentScope

router = APIRouter(
    prefix="/internal/gateway", tags=["internal"], route_class=ReportRoute, dependencies=[Depends(services_only)]
)
Gateway = Annotated[str, Query(max_length=100, description="Who asks: its own lessons are left out.")]


class _DescribedAs:
    """What comes is taken as it is, and described as what it should be."""

    def __init__(self, schema: CoreSchema) -> None:
        self._schema = schema

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(self._schema)


Untouched = Annotated[bytes, Body(), _DescribedAs(GatewayReport.__pydantic_core_schema__)]
_parts = APIRouter(route_class=PartRoute)


@_parts.post("/reports", response_model=ReportAnswer, operation_id="gateway_report")
async def report(here: Here, told: Untouched) -> Response:
    """A numbered part of what a gateway has to tell. Applied once; told again it changes nothing. Items that cannot be
    kept are left out."""
    applied = await reports.apply(here.database, await parts.read(told))
    if applied.taught:
        here.hints.send(LESSONS)
    return answer(applied.answer)


@router.get("/lessons", response_model=Lessons, operation_id="gateway_lessons")
async def get_lessons(
    here: Here,
    after: Annotated[int, Query(ge=0, le=2**62, description="The newest known.")] = 0,
    start: Annotated[
        bool, Query(description="Only the newest of each route, but one's own too: for a gateway that knows nothing.")
    ] = False,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for one.")] = 0,
    gateway: Gateway = "",
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most in one answer.")] = 1_000,
) -> Response:
    if not start:
        return answer(await here.lessons.after(after, gateway, limit, wait))
    async with here.database.transaction() as session:
        return answer(await lessons.for_a_start(session, after, limit))


@router.post("/feedback", response_model=Lesson, operation_id="gateway_feedback")
async def take_feedback(here: Here, told: KeptFeedback, gateway: Gateway = "") -> Response:
    """Of a decision that the gateway which was told does not know: another one made it. Who names itself as `gateway`
    learns from the answer and does not hear the lesson again."""
    async with here.database.transaction() as session:
        lesson = await feedback.take(session, gateway, told)
    here.hints.send(LESSONS)
    return answer(lesson)


@router.get("/spent", response_model=list[SpentScope], operation_id="gateway_spent")
async def spent(here: Here) -> Response:
    """What every key and project that has a budget has spent in its running period."""
    async with here.database.transaction() as session:
        return answers(await limits.spent_scopes(session))


router.include_router(_parts)
