"""Programs that an export needs beside Python: each runs as a child that an order to stop ends."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from imts_shared.worker.engine import EngineJob

LOOK_SECONDS = 0.1
END_SECONDS = 5.0
TAIL = 40


@dataclass(frozen=True)
class Ended:
    code: int
    """Negative: the signal that ended it."""
    lines: list[str]

    def has(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    @property
    def last(self) -> str:
        return next((line.strip() for line in reversed(self.lines) if line.strip()), f"it ended with code {self.code}")


def tools() -> Path:
    """Where the converter and llama.cpp lie: beside this environment's packages and never among them, for they bring
    a package `gguf` of their own."""
    return Path(sys.prefix) / "gguf-tools"


def run(job: EngineJob, command: list[str | Path], name: str) -> Ended:
    log = job.scratch / f"{name}.log"
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(tools()),
    }
    with log.open("wb") as file:
        child = subprocess.Popen(
            [str(part) for part in command],
            cwd=job.scratch, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
        try:
            while child.poll() is None:
                job.obey()
                time.sleep(LOOK_SECONDS)
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
    lines = log.read_text(errors="replace").splitlines()
    if child.returncode:
        job.log("\n".join(lines[-TAIL:]))
    return Ended(child.returncode, lines)
