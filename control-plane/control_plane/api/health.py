"""Is it alive, is it ready, what is it, what does it count."""

import os
import time
from importlib.metadata import version

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from control_plane.api.context import Here
from control_plane.problems import Refusal

router = APIRouter(tags=["health"])
_started = time.time()


@router.get("/healthz", operation_id="healthz", summary="The process is alive")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz", operation_id="readyz", summary="The process can do its work")
async def readyz(here: Here) -> dict[str, str]:
    try:
        async with here.database.statements() as session:
            await session.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError):
        raise Refusal(503, "database_unavailable", "The database does not answer.") from None
    return {"status": "ready"}


@router.get("/info", operation_id="info", summary="What this process is")
async def info(here: Here) -> dict[str, str | int | float]:
    return {
        "service": "control-plane-api",
        "version": version("imts-control-plane"),
        "profile": here.settings.profile,
        "pid": os.getpid(),
        "startedAt": _started,
    }


@router.get("/metrics", operation_id="metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
