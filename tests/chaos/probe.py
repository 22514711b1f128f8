"""An engine for chaos: counts steps, one line each into a file that outlives everything, with real checkpoints.

The job's `modelName` says how: `./steps=40,seconds=0.05`.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from imts_shared.worker.engine import EngineJob, Stopped

TICKS = "CHAOS_TICKS"


def run(job: EngineJob) -> dict[str, Any]:
    asked = dict(part.split("=") for part in job.spec["modelName"].removeprefix("./").split(","))
    steps, seconds = int(asked["steps"]), float(asked["seconds"])
    done = _resume(job)
    ticks = os.open(Path(os.environ[TICKS]) / f"{job.id}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for step in range(done + 1, steps + 1):
        tick = {"attempt": job.attempt, "pid": os.getpid(), "step": step, "at": time.time()}
        os.write(ticks, json.dumps(tick).encode() + b"\n")
        time.sleep(seconds)
        job.metric(step, value=step, attempt=job.attempt)
        job.progress(step, steps)
        if step % 10 == 0:
            _checkpoint(job, step)
        if job.order():
            _checkpoint(job, step)
            raise Stopped
    return {"steps": steps}


def _checkpoint(job: EngineJob, step: int) -> None:
    folder = job.scratch / f"step-{step}"
    folder.mkdir(exist_ok=True)
    (folder / "step").write_text(str(step))
    job.checkpoint(folder, step)


def _resume(job: EngineJob) -> int:
    if job.resume_from is None:
        return 0
    folder = job.scratch / "resumed"
    job.restore(job.resume_from, folder)
    return int((folder / "step").read_text())
