"""Workers over REST."""

from fastapi import APIRouter, Response

from control_plane.api.context import Here, Reader
from control_plane.api.pages import Cursor, Limit, answer, next_cursor
from control_plane.workers import service
from imts_shared.contracts.workers import WorkerPage

router = APIRouter(prefix="/api/workers", tags=["workers"])


@router.get("", response_model=WorkerPage, operation_id="list_workers", summary="List the workers and their slots")
async def list_workers(here: Here, _caller: Reader, cursor: Cursor = None, limit: Limit = 100) -> Response:
    async with here.database.transaction() as session:
        items = await service.find(session, cursor, limit)
    last = items[-1].id if items else None
    return answer(WorkerPage(items=list(items), next_cursor=next_cursor(items, limit, last)))
