"""The stand-in's data sets."""

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tests.cli.shapes import now, page, problem

if TYPE_CHECKING:
    from tests.cli.stand_in import Platform


def add_datasets(app: FastAPI, platform: "Platform") -> None:
    @app.post("/api/datasets")
    async def add(request: Request) -> Any:
        form = await request.form()
        file: Any = form["file"]
        content = await file.read()
        name = str(form["name"])
        dataset = {
            "id": str(uuid.uuid4()), "name": name, "version": 1, "project": "default", "state": "ready",
            "format": form.get("format", "alpaca"), "fileType": "jsonl", "fileName": file.filename,
            "rows": content.count(b"\n"), "badRows": len(platform.problems), "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(), "columns": ["instruction", "output"], "createdAt": now(),
        }  # fmt: skip
        platform.datasets[name] = platform.datasets[dataset["id"]] = dataset
        platform.files[dataset["id"]] = content
        return JSONResponse(dataset, 201)

    @app.get("/api/datasets")
    async def listed(request: Request) -> Any:
        return page(list({one["id"]: one for one in platform.datasets.values()}.values()), request)

    @app.get("/api/datasets/{dataset}")
    async def show(dataset: str) -> Any:
        return platform.datasets.get(dataset) or problem(404, "unknown_dataset", "There is no such data set.")

    @app.get("/api/datasets/{dataset}/versions")
    async def versions(dataset: str, request: Request) -> Any:
        return page([platform.datasets[dataset]], request)

    @app.get("/api/datasets/{dataset}/problems")
    async def problems(dataset: str, request: Request) -> Any:
        return page(platform.problems, request, kept=10_000)

    @app.get("/api/datasets/{dataset}/preview")
    async def preview(dataset: str, offset: int, limit: int) -> Any:
        lines = platform.files[platform.datasets[dataset]["id"]].splitlines()[offset : offset + limit]
        return {"items": [json.loads(line) for line in lines], "offset": offset}

    @app.get("/api/datasets/{dataset}/download")
    async def download(dataset: str) -> Any:
        return Response(platform.files[platform.datasets[dataset]["id"]], media_type="application/octet-stream")

    @app.delete("/api/datasets/{dataset}")
    async def delete(dataset: str) -> Any:
        del platform.datasets[dataset]
        return Response(status_code=204)
