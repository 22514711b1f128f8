"""What lies in storage, over REST."""

from fastapi import APIRouter, Response

from control_plane.api.context import Here, Reader
from control_plane.api.pages import ProjectQuery, answer
from control_plane.storage.use import storage_use
from imts_shared.contracts.storage import StorageUse

router = APIRouter(prefix="/api/storage", tags=["storage"])


@router.get("", response_model=StorageUse, operation_id="storage_use", summary="What takes up space, by kind")
async def storage(here: Here, caller: Reader, project: ProjectQuery = None) -> Response:
    async with here.database.transaction() as session:
        return answer(await storage_use(session, caller.reads_in(project)))
