"""The stand-in's models and checkpoints."""

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tests.cli.shapes import now, page, problem

if TYPE_CHECKING:
    from tests.cli.stand_in import Platform


def _keep(platform: "Platform", name: str, **fields: Any) -> dict[str, Any]:
    model = {
        "id": str(uuid.uuid4()), "name": name, "version": 1, "project": "default", "kind": "base", "baseModel": None,
        "baseModelId": None, "source": None, "template": None, "jobId": None, "checkpointStep": None, "bytes": 0,
        "files": 0, "sha256": None, "details": {}, "metrics": {}, "trustRemoteCode": False, "createdAt": now(),
    } | fields  # fmt: skip
    platform.models[name] = platform.models[model["id"]] = model
    return model


def add_models(app: FastAPI, platform: "Platform") -> None:
    @app.post("/api/models")
    async def add(request: Request) -> Any:
        body = await request.json()
        return JSONResponse(_keep(platform, **body), 201)

    @app.get("/api/models")
    async def listed(request: Request) -> Any:
        kinds = request.query_params.getlist("kind")
        found = {one["id"]: one for one in platform.models.values() if not kinds or one["kind"] in kinds}
        return page(list(found.values()), request)

    @app.get("/api/models/{model}")
    async def show(model: str) -> Any:
        return platform.models.get(model) or problem(404, "unknown_model", "There is no such model.")

    @app.patch("/api/models/{model}")
    async def change(model: str, request: Request) -> Any:
        platform.models[model].update(await request.json())
        return platform.models[model]

    @app.delete("/api/models/{model}")
    async def delete(model: str) -> Any:
        del platform.models[model]
        return Response(status_code=204)

    @app.get("/api/models/{model}/lineage")
    async def lineage(model: str) -> Any:
        job = {"id": "j1", "kind": "training", "state": "succeeded", "createdAt": now(), "configuration": {"epochs": 3}}
        data = [{"id": "d1", "name": "faq", "version": 2}, {"name": "gone"}]
        return {
            "model": platform.models[model], "job": job, "datasets": data, "baseModel": "org/base",
            "ancestors": [], "descendants": [],
        }  # fmt: skip

    @app.get("/api/models/{model}/card")
    async def card(model: str) -> Any:
        return Response(f"# {model}\n\x1b[31mred\n", media_type="text/markdown; charset=utf-8")

    _add_files(app, platform)
    _add_checkpoints(app, platform)


def _add_files(app: FastAPI, platform: "Platform") -> None:
    @app.get("/api/models/{model}/files")
    async def files(model: str) -> Any:
        digests = {path: hashlib.sha256(content).hexdigest() for path, content in platform.model_files.items()}
        return {
            "items": [
                {"path": path, "bytes": len(platform.model_files[path]), "sha256": digest}
                for path, digest in digests.items()
            ]
        }

    @app.get("/api/models/{model}/files/{path:path}")
    async def file(model: str, path: str) -> Any:
        return Response(platform.model_files[path], media_type="application/octet-stream")

    @app.post("/api/models/{model}/verify")
    async def verify(model: str) -> Any:
        problems = [one["message"] for one in platform.problems]
        return {"ok": not problems, "files": len(platform.model_files), "bytes": 9, "problems": problems}


def _add_checkpoints(app: FastAPI, platform: "Platform") -> None:
    @app.get("/api/jobs/{job_id}/checkpoints")
    async def checkpoints(job_id: str) -> Any:
        return {"items": platform.checkpoints}

    @app.post("/api/jobs/{job_id}/checkpoints/{step}/promote")
    async def promote(job_id: str, step: int, request: Request) -> Any:
        name = (await request.json()).get("name", "promoted")
        model = _keep(platform, name, kind="adapter", jobId=job_id, checkpointStep=step, details={"rank": 8})
        return JSONResponse(model, 201)
