"""The stand-in's sweeps."""

import uuid
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tests.cli.shapes import now, page, problem

if TYPE_CHECKING:
    from tests.cli.stand_in import Platform


def _sweep(body: dict[str, Any]) -> dict[str, Any]:
    values = body["parameters"]["learningRate"]["values"]
    trials = [
        {"number": n, "jobId": f"job-{n}", "state": "succeeded", "parameters": {"learningRate": value},
         "value": float(n), "rank": n}
        for n, value in enumerate(values, 1)
    ]  # fmt: skip
    return {
        "id": str(uuid.uuid4()), "name": None, "project": "default", "state": "succeeded", "method": "grid",
        "metric": "loss", "goal": "minimize", "counts": {"trials": len(values), "succeeded": len(values)},
        "createdAt": now(), "endedAt": None, "concurrency": 4, "seed": 42, "labels": {}, "trials": trials,
        "best": {**trials[0], "modelId": "m1"},
    } | body  # fmt: skip


def add_sweeps(app: FastAPI, platform: "Platform") -> None:
    @app.post("/api/training/sweeps")
    async def submit(request: Request) -> Any:
        key = request.headers["idempotency-key"]
        made = platform.sweeps.get(platform.idempotency.get(key, "")) or _sweep(await request.json())
        platform.idempotency[key] = made["id"]
        platform.sweeps[made["id"]] = made
        return JSONResponse(made, 201)

    @app.get("/api/training/sweeps")
    async def listed(request: Request) -> Any:
        return page(list(platform.sweeps.values()), request)

    @app.get("/api/training/sweeps/{sweep_id}")
    async def show(sweep_id: str) -> Any:
        return platform.sweeps.get(sweep_id) or problem(404, "unknown_sweep", "There is no such sweep.")

    @app.post("/api/training/sweeps/{sweep_id}/stop")
    async def stop(sweep_id: str) -> Any:
        platform.sweeps[sweep_id]["state"] = "stopping"
        return platform.sweeps[sweep_id]

    @app.delete("/api/training/sweeps/{sweep_id}")
    async def delete(sweep_id: str) -> Any:
        del platform.sweeps[sweep_id]
        return Response(status_code=204)
