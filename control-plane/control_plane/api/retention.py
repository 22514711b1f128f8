"""The retention rules over REST."""

from fastapi import APIRouter, Response

from control_plane.api.context import Here, Reader
from control_plane.api.pages import Limit, answer
from control_plane.retention import service
from imts_shared.contracts.retention import Retention

router = APIRouter(prefix="/api/retention", tags=["retention"])


@router.get("", response_model=Retention, operation_id="retention", summary="What is kept, and what was pruned")
async def retention(here: Here, _caller: Reader, limit: Limit = 50) -> Response:
    async with here.database.transaction() as session:
        return answer(await service.report(session, here.settings, limit))
