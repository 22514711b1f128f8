"""Jobs that make models: an attempt with real files and manifests in storage, up to its accepted outcome."""

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.types.json import Jsonb

from imts_shared.contracts.internal import RunMessage
from imts_shared.storage import Storage
from imts_shared.worker.checkpoints import MANIFEST, store
from tests.control_plane.test_jobs import submit
from tests.control_plane.worker_side import WorkerSide, execute


class Maker:
    """Submits training jobs and plays the engine that runs them."""

    def __init__(self, client: httpx.AsyncClient, worker: WorkerSide, storage: Storage, folder: Path) -> None:
        self.client = client
        self.worker = worker
        self.storage = storage
        self.folder = folder

    async def started(
        self, spec: dict[str, Any] | None = None, kind: str = "training", **body: Any
    ) -> tuple[str, RunMessage, dict[str, Any]]:
        """`spec` is written over the stored specification: what a service's own contract would let through."""
        job = await submit(self.client, kind, **{"modelName": "builtin:tiny-qwen3", **body})
        if spec:
            with psycopg.connect(self.worker.database.url, autocommit=True) as connection:
                connection.execute("UPDATE jobs SET spec = spec || %s WHERE id = %s", (Jsonb(spec), job["id"]))
        message = next(m for m in await self.worker.dispatch() if m.job_id == job["id"])
        claimed = await self.worker.claim(message)
        assert claimed.status_code == 200, claimed.text
        return job["id"], message, claimed.json()

    def written(self, prefix: str, text: str = "weights") -> dict[str, Any]:
        """Files and their manifest under the prefix, as what a model says of itself."""
        source = self.folder / sha256(prefix.encode()).hexdigest()[:12]
        (source / "deep").mkdir(parents=True, exist_ok=True)
        (source / "config.json").write_text("{}")
        (source / "deep" / "model.bin").write_text(text)
        size, count = store(self.storage, source, prefix)
        digest = sha256(self.storage.get_bytes(f"{prefix}/{MANIFEST}")).hexdigest()
        return {"prefix": prefix, "bytes": size, "files": count, "sha256": digest}

    def produced(self, claimed: dict[str, Any], folder: str = "model", **fields: Any) -> dict[str, Any]:
        files = self.written(f"{claimed['prefix']}{folder}")
        return {"kind": "adapter", "baseModel": claimed["spec"]["modelName"], **files, **fields}

    async def ended(
        self, message: RunMessage, models: Any, status: str = "succeeded", batch: int = 1
    ) -> httpx.Response:
        return await self.worker.report(
            message, batch=batch, outcome={"status": status, "result": {"loss": 1.0, "models": models}}
        )

    async def made(self, spec: dict[str, Any] | None = None, fields: dict[str, Any] | None = None, **body: Any) -> Any:
        """A finished job's one model."""
        job_id, message, claimed = await self.started(spec, **body)
        answer = await self.ended(message, [self.produced(claimed, **(fields or {}))])
        assert answer.status_code == 200, answer.text
        [told] = (await self.client.get(f"/api/jobs/{job_id}")).json()["result"]["models"]
        return (await self.client.get(f"/api/models/{told['id']}")).json()

    async def checkpointed(self, message: RunMessage, claimed: dict[str, Any], step: int, batch: int) -> str:
        files = self.written(f"{claimed['prefix']}checkpoints/step-{step}", f"at {step}")
        data = {"step": step, "prefix": files["prefix"] + "/", "bytes": files["bytes"], "files": files["files"]}
        event = {"type": "checkpoint", "at": datetime.now(UTC).isoformat(), "data": data}
        answer = await self.worker.report(message, batch=batch, events=[event])
        assert answer.status_code == 200, answer.text
        return str(files["prefix"])


def trashed(database_url: str) -> set[str]:
    with psycopg.connect(database_url) as connection:
        return {row[0].rstrip("/") for row in connection.execute("SELECT prefix FROM storage_trash").fetchall()}


__all__ = ["Maker", "execute", "trashed"]
