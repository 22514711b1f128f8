"""What an engine sees of its job. An engine is a function `run(job: EngineJob) -> dict`, called in a child process.

EngineFailure        the job fails: a reason, a message and a hint for the person who submitted it
  BadConfig          what was asked for cannot be done
  BadData            the data cannot be used
  OutOfMemory
  OutOfDisk
Stopped              the engine obeyed an order to stop or pause
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import orjson

from imts_shared.contracts.internal import Checkpoint, ClaimAnswer, DatasetInput
from imts_shared.contracts.jobs import JobKind, Reason
from imts_shared.contracts.models import ModelInput
from imts_shared.storage import Storage
from imts_shared.worker import checkpoints
from imts_shared.worker.lines import clean, line, now, without_nul

PROGRESS_SECONDS = 0.25
Order = Literal["stop", "pause"]


class EngineFailure(Exception):
    """Ends the job as failed, with words for the person who submitted it."""

    reason = Reason.engine_error

    def __init__(self, message: str, hint: str | None = None, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if reason is not None:
            self.reason = reason


class BadConfig(EngineFailure):
    reason = Reason.bad_config


class BadData(EngineFailure):
    reason = Reason.bad_data


class OutOfMemory(EngineFailure):
    reason = Reason.out_of_memory


class OutOfDisk(EngineFailure):
    reason = Reason.out_of_disk


class Stopped(Exception):
    """The engine has stopped because it was told to."""


@dataclass(frozen=True)
class StoredFolder:
    prefix: str
    bytes: int
    files: int
    sha256: str
    """Of the manifest, and so of everything in the folder."""


class EngineJob:
    """One attempt of a job. Every method may be called from any thread of the engine's process."""

    def __init__(
        self, claim: ClaimAnswer, make_storage: Callable[[], Storage], scratch: Path, send: Callable[[bytes], None]
    ) -> None:
        self.claim = claim
        self.id: str = claim.job_id
        self.attempt: int = claim.attempt
        self.kind: JobKind = claim.kind
        self.spec: dict[str, Any] = claim.spec
        self.inputs: list[DatasetInput] = claim.inputs
        self.models: list[ModelInput] = claim.models
        self.secrets: dict[str, str] = claim.secrets
        self.resume_from: Checkpoint | None = claim.resume_from
        self.scratch: Path = scratch
        self.options: dict[str, str] = {}
        """What the worker was started with, beside the job."""
        self.devices: list[str] = []
        """The GPUs that are this attempt's alone, as CUDA_VISIBLE_DEVICES names them."""
        self._prefix = claim.prefix.rstrip("/")
        self._make_storage = make_storage
        self._send = send
        self._order: Order | None = None
        self._ordered = threading.Event()
        self._lock = threading.Lock()
        self._progress: dict[str, Any] | None = None
        self._progress_sent = 0.0

    @cached_property
    def storage(self) -> Storage:
        return self._make_storage()

    def order(self) -> Order | None:
        """Whether to save the work and stop. `obey` raises Stopped for an engine that has nothing to save."""
        return self._order

    def await_order(self) -> None:
        self._ordered.wait()

    def obey(self) -> None:
        if self._order is not None:
            raise Stopped(self._order)

    def progress(self, step: int, total: int | None, eta_seconds: float | None = None) -> None:
        """Cheap enough for an inner loop: at most four a second go out, and the last one always does."""
        data: dict[str, Any] = {"step": step}
        if total is not None:
            data["totalSteps"] = total
            data["percent"] = round(min(100.0, 100.0 * step / total), 2) if total > 0 else 100.0
        if eta_seconds is not None:
            data["etaSeconds"] = round(eta_seconds, 1)
        with self._lock:
            self._progress = data
        self.flush_progress(PROGRESS_SECONDS)

    def flush_progress(self, not_within: float = 0.0) -> None:
        with self._lock:
            data = self._progress
            if data is None or monotonic() - self._progress_sent < not_within:
                return
            self._progress = None
            self._progress_sent = monotonic()
        self._event("progress", data)

    def metric(self, step: int, **values: float | None) -> None:
        self._event("metric", {"step": step, **values})

    def message(self, text: str) -> None:
        """A sentence for the job's history."""
        self._event("message", {"text": clean(text)})

    def log(self, text: str) -> None:
        for one in text.splitlines() or [""]:
            self._send(b"L" + line("log", one))

    def checkpoint(self, folder: Path, step: int) -> Checkpoint:
        """Stores the folder's files. It is named, and so resumed from, only once all of them are there."""
        prefix = f"{self._prefix}/checkpoints/step-{step}"
        size, count = checkpoints.store(self.storage, folder, prefix)
        self._event(
            "checkpoint",
            {"step": step, "prefix": prefix, "bytes": size, "files": count, "attempt": self.attempt},
        )
        return Checkpoint(attempt=self.attempt, step=step, prefix=prefix, bytes=size)

    def restore(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Fetches a checkpoint and checks every file of it; raises BadCheckpoint when one is not what it was."""
        checkpoints.fetch(self.storage, checkpoint.prefix, folder)

    def publish(self, folder: Path, name: str) -> StoredFolder:
        """Stores a folder whole, with a manifest of its files. It exists for the world when a result names it."""
        prefix = f"{self._prefix}/{name}"
        size, count = checkpoints.store(self.storage, folder, prefix)
        manifest = self.storage.get_bytes(f"{prefix}/{checkpoints.MANIFEST}")
        return StoredFolder(prefix, size, count, hashlib.sha256(manifest).hexdigest())

    def artifact(self, path: Path, name: str) -> str:
        """Stores a file for people to download and returns its key."""
        key = f"{self._prefix}/artifacts/{name}"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        self.storage.put_file(key, path)
        self._event("artifact", {"name": name, "key": key, "bytes": size, "sha256": digest})
        return key

    def relay(self, frame: bytes) -> None:
        """Sends on what another process said for this attempt."""
        self._send(frame)

    def heed(self, order: Order) -> None:
        """For the runtime: what `order` answers from now on."""
        self._order = order
        self._ordered.set()

    def _event(self, kind: str, data: dict[str, Any]) -> None:
        event = {"type": kind, "at": now(), "data": data}
        self._send(b"E" + without_nul(orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)))
