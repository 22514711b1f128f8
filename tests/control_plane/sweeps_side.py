"""The watcher's and the engines' side of sweeps."""

from datetime import UTC, datetime
from typing import Any

import httpx

from control_plane.hints import Hints
from control_plane.jobs.references import References
from control_plane.sweeps import advancing
from imts_shared.contracts.internal import RunMessage
from tests.control_plane.worker_side import WorkerSide

BASE = {"modelName": "builtin:tiny-qwen3", "dataset": "alpaca_en_demo", "maxSteps": 90}
RATES = [1e-3, 1e-4, 1e-5]


class Side:
    """The watcher's and the engines' side of sweeps."""

    def __init__(self, client: httpx.AsyncClient, worker: WorkerSide, references: References) -> None:
        self.client = client
        self.worker = worker
        self.references = references
        self.hints = Hints(worker.database.url)
        self.running: dict[int, RunMessage] = {}
        self._batch: dict[str, int] = {}

    async def sweep(self, **body: Any) -> str:
        answer = await self.client.post("/api/training/sweeps", json={"base": BASE, **body})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def advance(self) -> None:
        await advancing.advance_all(self.worker.database, self.references, self.hints)

    async def shown(self, sweep_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"/api/training/sweeps/{sweep_id}")
        assert answer.status_code == 200, answer.text
        sweep: dict[str, Any] = answer.json()
        return sweep

    async def trials(self, sweep_id: str) -> dict[int, dict[str, Any]]:
        return {trial["number"]: trial for trial in (await self.shown(sweep_id))["trials"]}

    async def children(self, sweep_id: str) -> list[dict[str, Any]]:
        params = {"label": f"imts/sweep={sweep_id}", "limit": 500}
        found: list[dict[str, Any]] = (await self.client.get("/api/jobs", params=params)).json()["items"]
        return sorted(found, key=lambda job: int(job["labels"]["imts/trial"]))

    async def started(self, sweep_id: str) -> None:
        """Every job that was submitted gets a worker."""
        numbers = {job["id"]: int(job["labels"]["imts/trial"]) for job in await self.children(sweep_id)}
        for message in await self.worker.dispatch():
            assert (await self.worker.claim(message)).status_code == 200
            self.running[numbers[message.job_id]] = message

    async def report(self, number: int, **content: Any) -> None:
        message = self.running[number]
        batch = self._batch[message.job_id] = self._batch.get(message.job_id, 0) + 1
        answer = await self.worker.report(message, batch=batch, **content)
        assert answer.status_code == 200, answer.text

    async def measured(self, number: int, step: int, **values: float) -> None:
        event = {"type": "metric", "at": datetime.now(UTC).isoformat(), "data": {"step": step, **values}}
        await self.report(number, events=[event])

    async def ended(self, number: int, status: str = "succeeded", **outcome: Any) -> None:
        await self.report(number, outcome={"status": status, **outcome})
