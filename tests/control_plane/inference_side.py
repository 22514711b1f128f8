"""An inference worker's and a gateway's half of the conversation, spoken over real HTTP."""

from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg

from tests.conftest import SERVICE_KEY

GIB = 2**30


def now() -> str:
    return datetime.now(UTC).isoformat()


class InferenceSide:
    """One worker: `replicas` is what it reports, and `run` brings up what it was told to."""

    def __init__(self, url: str, worker_id: str = "i1", **says: Any) -> None:
        headers = {"Authorization": f"Bearer {SERVICE_KEY}"}
        self.http = httpx.AsyncClient(base_url=url, timeout=30, headers=headers)
        self.worker_id = worker_id
        self.batch = 0
        self.replicas: dict[tuple[str, int, int], dict[str, Any]] = {}
        self.wanted: dict[str, dict[str, Any]] = {}
        self.says: dict[str, Any] = {
            "engines": {"vllm": "installed", "llamacpp": "installable"}, "gpus": 0, "memoryBytes": 16 * GIB,
            "pid": 1, "launcher": "process", "draining": False,
        } | says  # fmt: skip

    async def sync(self, *, lines: Any = (), messages: Any = (), batch: int | None = None) -> dict[str, Any]:
        self.batch = batch or self.batch + 1
        says = dict(self.says)
        gpus = says.pop("gpus")
        held = sum(len(one.get("gpus", ())) for one in self.replicas.values())
        body = {
            "workerId": self.worker_id, "name": self.worker_id, "host": "here", "version": "0", "batch": self.batch,
            "devices": [{"kind": "cuda", "index": n, "name": "GPU", "memoryBytes": 2**34} for n in range(gpus)],
            "gpusFree": gpus - held, "replicas": list(self.replicas.values()), "lines": list(lines),
            "messages": list(messages),
        } | says  # fmt: skip
        answer = await self.http.post("/internal/deployments/sync", json=body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        self.wanted = {one["id"]: one for one in told["deployments"]}
        return told

    def report(self, deployment: str, revision: int = 1, number: int = 0, **fields: Any) -> None:
        key = (deployment, revision, number)
        before = self.replicas.get(key, {"state": "ready", "url": f"http://127.0.0.1:{9000 + revision * 100 + number}"})
        self.replicas[key] = before | {"deploymentId": deployment, "revision": revision, "number": number} | fields

    def gone(self, deployment: str, revision: int | None = None) -> None:
        self.replicas = {
            key: one
            for key, one in self.replicas.items()
            if key[0] != deployment or (revision is not None and key[1] != revision)
        }

    async def run(self) -> dict[str, Any]:
        """Everything that is wanted comes up at once, and what is not wanted is gone."""
        await self.sync()
        wanted = set()
        for one in self.wanted.values():
            for revision in one["revisions"]:
                for number in range(one["replicas"]):
                    key = (one["id"], revision["number"], number)
                    wanted.add(key)
                    adapters = [
                        {
                            "name": a["name"],
                            "modelId": a["model"]["registered"]["id"],
                            "state": "loaded",
                            "seconds": 0.1,
                        }
                        for a in one["adapters"]
                    ]
                    if key not in self.replicas:
                        self.report(*key, startedAt=now())
                    self.replicas[key]["adapters"] = adapters
        self.replicas = {key: one for key, one in self.replicas.items() if key in wanted}
        return await self.sync()

    async def snapshot(self, version: str | None = None, wait: float = 0) -> dict[str, Any]:
        params = {"wait": wait, **({"version": version} if version else {})}
        answer = await self.http.get("/internal/gateway/snapshot", params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def served(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in (await self.snapshot())["models"]}

    async def wake(self, deployment: str) -> httpx.Response:
        return await self.http.post(f"/internal/deployments/{deployment}/wake")


def silent(database_url: str, worker_id: str | None = None) -> None:
    """As if the worker had not been heard for a lease, and the api had been there all the while."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE presence SET since = since - interval '1 hour'")
        connection.execute(
            "UPDATE deployments SET lease_until = clock_timestamp() - interval '1 second' WHERE worker_id = %s",
            (worker_id,),
        )
        connection.execute(
            "UPDATE inference_workers SET seen_at = seen_at - interval '1 hour' WHERE id = %s", (worker_id,)
        )
