"""Lists, problems and times as the platform writes them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse


def now() -> str:
    return datetime.now(UTC).isoformat()


def problem(status: int, code: str, detail: str, **more: Any) -> JSONResponse:
    body = {"type": f"urn:imts:problem:{code}", "title": "No", "status": status, "code": code, "detail": detail}
    return JSONResponse(body | more, status, media_type="application/problem+json")


def page(items: Sequence[Any], request: Request, **more: Any) -> dict[str, Any]:
    start, limit = int(request.query_params.get("cursor", 0)), int(request.query_params.get("limit", 50))
    end = start + limit
    return {"items": items[start:end], "nextCursor": str(end) if len(items[start:end]) == limit else None, **more}
