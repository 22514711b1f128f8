"""A small server that answers in the platform's shapes, from lists and dictionaries."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tests.cli.shapes import now, page, problem
from tests.cli.stand_in_access import add_access
from tests.cli.stand_in_datasets import add_datasets
from tests.cli.stand_in_gateway import Gateway, add_gateway
from tests.cli.stand_in_models import add_models
from tests.cli.stand_in_sweeps import add_sweeps

KEY = "imts_test_key"


class Platform:
    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.idempotency: dict[str, str] = {}
        self.datasets: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.model_files: dict[str, bytes] = {}
        self.checkpoints: list[dict[str, Any]] = []
        self.problems: list[dict[str, Any]] = []
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.projects: dict[str, dict[str, Any]] = {}
        self.tokens: dict[tuple[str, str], str] = {}
        self.webhooks: dict[str, dict[str, Any]] = {}
        self.gateway = Gateway()
        self.workers: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: list[tuple[int, dict[str, str]]] = []
        """Answered one by one before anything else is looked at."""

    def add_job(self, kind: str = "analysis", **fields: Any) -> dict[str, Any]:
        job_id = str(uuid.uuid4())
        job = {
            "id": job_id, "kind": kind, "name": None, "project": "default", "state": "queued", "reason": None,
            "attempt": 0, "tries": 0, "maxAttempts": 3, "priority": 0, "labels": {}, "queuePosition": 1,
            "progress": {"percent": None, "step": None, "totalSteps": None, "etaSeconds": None},
            "createdAt": now(), "startedAt": None, "endedAt": None, "spec": {}, "result": None, "error": None,
            "aFieldOfTomorrow": 1,
        } | fields  # fmt: skip
        self.jobs[job_id] = job
        self.events[job_id] = []
        self.lines[job_id] = []
        self.event(job_id, "state", {"state": "queued", "attempt": 0})
        return job

    def event(self, job_id: str, kind: str, data: dict[str, Any]) -> None:
        events = self.events[job_id]
        events.append({"seq": len(events) + 1, "type": kind, "at": now(), "data": data})

    def move(self, job_id: str, state: str, **more: Any) -> None:
        self.jobs[job_id] |= {"state": state, **more}
        self.event(job_id, "state", {"state": state, "attempt": self.jobs[job_id]["attempt"]})

    def log(self, job_id: str, *texts: str) -> None:
        lines = self.lines[job_id]
        first = len(lines) + 1
        lines += [{"line": first + i, "at": now(), "stream": "log", "text": text} for i, text in enumerate(texts)]
        self.event(job_id, "log", {"firstLine": first, "count": len(texts), "text": texts[-1][:500]})

    def ended(self, job_id: str) -> bool:
        return self.jobs[job_id]["state"] in {"succeeded", "failed", "stopped"}


def create_app(platform: Platform) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def gate(request: Request, call_next: Any) -> Response:
        platform.requests.append((request.method, request.url.path, dict(request.headers)))
        if platform.faults:
            status, headers = platform.faults.pop(0)
            answer = problem(status, "out_of_order", "Not now.")
            answer.headers.update(headers)
            return answer
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return problem(401, "bad_key", "This key opens nothing.", hint="Ask an admin for one.")
        return await call_next(request)

    _jobs(app, platform)
    _streams(app, platform)
    add_datasets(app, platform)
    add_models(app, platform)
    add_sweeps(app, platform)
    add_access(app, platform)
    add_gateway(app, platform)
    return app


def _jobs(app: FastAPI, platform: Platform) -> None:
    @app.get("/api/jobs")
    async def listed(request: Request) -> Any:
        asked = request.query_params
        found = [
            job
            for job in reversed(platform.jobs.values())
            if job["state"] in (asked.getlist("state") or [job["state"]])
            and job["kind"] in (asked.getlist("kind") or [job["kind"]])
            and all(job["labels"].get(k) == v for k, v in (pair.split("=") for pair in asked.getlist("label")))
            and asked.get("text", "") in (job["name"] or "")
        ]
        return page(found, request)

    @app.post("/api/{kind}/jobs")
    async def submit(kind: str, request: Request) -> Any:
        key = request.headers["idempotency-key"]
        if key in platform.idempotency:
            return platform.jobs[platform.idempotency[key]]
        body = await request.json()
        if "datset" in body:
            fault = {"field": "datset", "code": "unknown_field", "message": "there is no field 'datset'"}
            hint = "Did you mean 'dataset'?"
            detail = "datset: there is no field 'datset'."
            return problem(422, "invalid_request", detail, field="datset", hint=hint, errors=[fault])
        envelope = {name: body.pop(name) for name in ("name", "priority", "labels", "project") if name in body}
        job = platform.add_job(kind, spec=body, **envelope)
        platform.idempotency[key] = job["id"]
        return JSONResponse(job, 201)

    @app.get("/api/jobs/{job_id}")
    async def show(job_id: str) -> Any:
        return platform.jobs.get(job_id) or problem(404, "unknown_job", f"There is no job {job_id!r} here.")

    @app.delete("/api/jobs/{job_id}")
    async def delete(job_id: str) -> Any:
        if job_id not in platform.jobs:
            return problem(404, "unknown_job", f"There is no job {job_id!r} here.")
        if not platform.ended(job_id):
            return problem(409, "job_not_ended", "The job has not ended.", hint="Stop it first.")
        del platform.jobs[job_id]
        return Response(status_code=204)

    @app.post("/api/jobs/{job_id}/{order}")
    async def order(job_id: str, order: str, request: Request) -> Any:
        if order == "clone":
            assert request.headers["idempotency-key"]
            job = platform.jobs[job_id]
            return JSONResponse(platform.add_job(job["kind"], spec=job["spec"], cloneOf=job_id), 201)
        states = {"stop": "stopped", "pause": "paused", "resume": "queued", "retry": "queued"}
        platform.move(job_id, states[order])
        return platform.jobs[job_id]

    @app.get("/api/workers")
    async def workers(request: Request) -> Any:
        return page(platform.workers, request)


def _streams(app: FastAPI, platform: Platform) -> None:
    async def stream(job_id: str, items: list[dict[str, Any]], number: str, after: int) -> AsyncIterator[bytes]:
        while True:
            for item in [item for item in items if item[number] > after]:
                after = item[number]
                head = f"id: {after}\n" + (f"event: {item['type']}\n" if "type" in item else "")
                yield f"{head}data: {json.dumps(item, ensure_ascii=False)}\n\n".encode()
            if platform.ended(job_id) and not [item for item in items if item[number] > after]:
                break
            yield b": still here\n\n"
            await asyncio.sleep(0.02)
        yield b"event: end\ndata: {}\n\n"

    def answer(request: Request, job_id: str, items: list[dict[str, Any]], number: str) -> Any:
        if "text/event-stream" in request.headers["accept"]:
            after = int(request.headers.get("last-event-id", 0))
            return StreamingResponse(stream(job_id, items, number, after), media_type="text/event-stream")
        return page(items, request)

    @app.get("/api/jobs/{job_id}/events")
    async def events(job_id: str, request: Request) -> Any:
        return answer(request, job_id, platform.events[job_id], "seq")

    @app.get("/api/jobs/{job_id}/logs")
    async def logs(job_id: str, request: Request) -> Any:
        return answer(request, job_id, platform.lines[job_id], "line")

    @app.get("/api/jobs/{job_id}/metrics")
    async def metrics(job_id: str, request: Request) -> Any:
        names = request.query_params.getlist("names")
        points = [e for e in platform.events[job_id] if e["type"] == "metric"]
        shown = [{"step": e["data"]["step"], "at": e["at"], "values": {n: e["data"][n] for n in names}} for e in points]
        return {"points": shown, "of": len(points), "names": names}
