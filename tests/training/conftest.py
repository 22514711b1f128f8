"""Attempts run as a worker runs them: forked from a process that has imported the frameworks.

The tests of this folder run in the training service's environment (IMTS_TRAINING_TESTS), those of its subfolders, which
need no framework, in the platform's.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from imts_shared.contracts.internal import Checkpoint, ClaimAnswer, DatasetInput
from imts_shared.contracts.jobs import JobKind
from imts_shared.contracts.models import ModelInput
from imts_shared.storage import Storage
from training_service.frameworks import ready

HERE = bool(os.environ.get("IMTS_TRAINING_TESTS"))
collect_ignore_glob = ["rewards/*"] if HERE else ["test_*.py"]
if HERE:
    ready()

FORK = multiprocessing.get_context("fork")


@dataclass
class Run:
    """What an attempt said, and how it ended."""

    events: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events if event["type"] == kind]

    @property
    def losses(self) -> dict[int, float]:
        return {point["step"]: point["loss"] for point in self.of("metric") if "loss" in point}

    @property
    def result(self) -> dict[str, Any]:
        assert self.outcome["status"] == "succeeded", self.outcome
        found: dict[str, Any] = self.outcome["result"]
        return found

    @property
    def newest(self) -> Checkpoint:
        return Checkpoint.model_validate(self.of("checkpoint")[-1])


@dataclass
class Place:
    """A storage, a folder for models, and attempts on them. This process never opens the storage: its client's
    threads would not outlive the fork."""

    folder: Path
    models: Path
    attempts: int = 0

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    def files(self, prefix: str) -> dict[str, Path]:
        folder = self.storage / prefix
        return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}

    def dataset(self, name: str, form: str, rows: list[dict[str, Any]]) -> DatasetInput:
        content = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        (self.storage / "datasets").mkdir(parents=True, exist_ok=True)
        (self.storage / "datasets" / name).write_bytes(content)
        return DatasetInput(
            id=name, name=name, version=1, sha256="0", format=form, file_type="jsonl", key=f"datasets/{name}",
            rows=len(rows), bytes=len(content),
        )  # fmt: skip

    def run(
        self,
        spec: dict[str, Any],
        inputs: list[DatasetInput],
        *,
        kind: JobKind = JobKind.training,
        models: list[ModelInput] | None = None,
        resume_from: Checkpoint | None = None,
        watch: Callable[[dict[str, Any], Any], None] | None = None,
        options: dict[str, str] | None = None,
        memory_limit: int | None = None,
        secrets: dict[str, str] | None = None,
    ) -> Run:
        """`watch` is called with each event and a function that orders the attempt to stop."""
        self.attempts += 1
        uses = [{"id": one.id, "name": one.name, "version": 1, "use": "train", "weight": 1.0} for one in inputs]
        claim = ClaimAnswer(
            job_id="job",
            kind=kind,
            project="default",
            attempt=self.attempts,
            spec={"datasets": uses, **spec},
            inputs=inputs,
            models=models or [],
            secrets=secrets or {},
            prefix=f"jobs/job/{self.attempts}/",
            resume_from=resume_from,
            lease_seconds=20,
            beat_seconds=2,
            stop_grace_seconds=8,
        )
        scratch = self.folder / f"scratch-{self.attempts}"
        scratch.mkdir()
        here, there = FORK.Pipe(duplex=False)
        ordered = FORK.Event()
        told = {"models": str(self.models), **(options or {})}
        process = FORK.Process(
            target=_attempt, args=(claim, self.storage.as_uri(), scratch, told, there, ordered, memory_limit)
        )
        process.start()
        there.close()
        run = Run()
        while True:
            try:
                frame = here.recv_bytes()
            except EOFError:
                break
            if frame[:1] == b"E":
                event = orjson.loads(frame[1:])
                run.events.append(event)
                if watch is not None:
                    watch(event, ordered.set)
            elif frame[:1] == b"L":
                run.lines.append(frame[1:].decode(errors="replace"))
            elif frame[:1] == b"O":
                run.outcome = orjson.loads(frame[1:])
        process.join()
        run.lines = [*(scratch / "log").read_text(errors="replace").splitlines(), *run.lines]
        assert run.outcome, run.lines[-30:]
        return run


def _attempt(
    claim: ClaimAnswer,
    storage: str,
    scratch: Path,
    options: dict[str, str],
    there: Any,
    ordered: Any,
    memory_limit: int | None,
) -> None:
    import resource
    import sys
    import threading

    from imts_shared.worker.child import _perform
    from imts_shared.worker.engine import EngineJob

    log = (scratch / "log").open("wb")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    os.chdir(scratch)
    if memory_limit is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    job = EngineJob(claim, lambda: Storage(storage), scratch, there.send_bytes)
    job.options = options

    def listen() -> None:
        ordered.wait()
        job.heed("stop")

    threading.Thread(target=listen, daemon=True).start()
    frame = _perform("training_service.engine:run", job, there.send_bytes)
    sys.stdout.flush()
    sys.stderr.flush()
    there.send_bytes(frame)
    os._exit(0)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("IMTS_TEST_MODELS")
    return Path(named) if named else tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session", autouse=True)
def _frameworks(models: Path) -> Iterator[None]:
    if HERE:
        import training_service.preload  # noqa: F401
    yield


@pytest.fixture
def place(tmp_path: Path, models: Path) -> Place:
    return Place(tmp_path, models)
