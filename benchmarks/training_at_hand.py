"""What the measures of training share: jobs sent and awaited, and a command of LLaMA-Factory's own for the same job."""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from platform_at_hand import ROOT, Platform

ENDS = ("succeeded", "failed", "stopped", "paused")
EXAMPLE = ROOT / "control-plane" / "control_plane" / "datasets" / "builtin" / "alpaca_en_demo.jsonl"


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def percentiles(seconds: list[float], *parts: float) -> dict[str, Any]:
    found = sorted(seconds)
    told = {f"p{part * 100:.0f}": found[min(len(found) - 1, int(len(found) * part))] for part in parts} if found else {}
    return {"count": len(found), **{name: round(value, 4) for name, value in told.items()}}


@dataclass
class Training:
    platform: Platform
    http: httpx.Client

    @classmethod
    def at(cls, platform: Platform) -> "Training":
        return cls(platform, httpx.Client(base_url=platform.url, headers=platform.headers, timeout=60))

    def told(self, method: str, path: str, **more: Any) -> Any:
        answer = self.http.request(method, path, **more)
        if answer.status_code >= 400:
            raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def submit(self, **body: Any) -> str:
        return str(self.told("POST", "/api/training/jobs", json=body)["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.told("GET", f"/api/jobs/{job_id}")
        return found

    def ended(self, job_id: str, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (job := self.job(job_id))["state"] not in ENDS:
            if time.monotonic() > deadline:
                raise SystemExit(f"{job_id} does not end: {job}")
            time.sleep(0.2)
        return job

    def losses(self, job_id: str) -> dict[int, float]:
        asked = {"names": "loss", "points": 10_000}
        points = self.told("GET", f"/api/jobs/{job_id}/metrics", params=asked)["points"]
        return {point["step"]: point["values"]["loss"] for point in points}

    def stream(self, job_id: str) -> Iterator[tuple[float, dict[str, Any]]]:
        """Each event with the time at which it was read."""
        path, headers = f"/api/jobs/{job_id}/events", {"Accept": "text/event-stream", "Last-Event-ID": "0"}
        with self.http.stream("GET", path, headers=headers, timeout=httpx.Timeout(60, read=None)) as lines:
            for line in lines.iter_lines():
                if line == "event: end":
                    return
                if line.startswith('data: {"seq"'):
                    yield time.time(), json.loads(line[6:])


@dataclass
class Bare:
    """`llamafactory-cli train` with what the platform's job gives it, in an empty folder each time."""

    python: Path
    model: Path
    arguments: dict[str, Any]
    rows: Path
    passive: bool = False

    def run(self) -> tuple[float, float]:
        """How long the command took, and the last loss that it logged."""
        with tempfile.TemporaryDirectory(prefix="imts-bare-") as temporary:
            place = Path(temporary)
            asked = self._asked(place)
            began = time.monotonic()
            with (place / "log").open("wb") as log:
                done = subprocess.run(
                    [self.python.parent / "llamafactory-cli", "train", asked],
                    env=self._environment(place), cwd=place, stdout=log, stderr=log, check=False,
                    stdin=subprocess.DEVNULL,
                )  # fmt: skip
            took = time.monotonic() - began
            if done.returncode != 0:
                raise SystemExit((place / "log").read_text(errors="replace")[-4_000:])
            logged = json.loads((place / "output" / "trainer_state.json").read_text())["log_history"]
            return took, [line["loss"] for line in logged if "loss" in line][-1]

    def _asked(self, place: Path) -> Path:
        data = place / "data"
        data.mkdir()
        rows = [json.loads(line) for line in self.rows.read_text().splitlines() if line.strip()]
        (data / "rows.json").write_text(json.dumps(rows))
        (data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))
        file = place / "asked.yaml"
        places = {
            "model_name_or_path": str(self.model),
            "dataset": "rows",
            "dataset_dir": str(data),
            "output_dir": str(place / "output"),
            "overwrite_output_dir": True,
        }
        file.write_text(yaml.safe_dump(self.arguments | places))
        return file

    def _environment(self, place: Path) -> dict[str, str]:
        """Without torchaudio, which no text needs, LLaMA-Factory does not even start: an empty one does."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("IMTS_", "PYTHON"))}
        missing = subprocess.run(
            [self.python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torchaudio') is None)"],
            env=own, check=False,
        ).returncode  # fmt: skip
        if missing:
            (place / "stubs" / "torchaudio").mkdir(parents=True)
            (place / "stubs" / "torchaudio" / "__init__.py").write_text('__version__ = "0"\n')
            own["PYTHONPATH"] = str(place / "stubs")
        told = {
            "DISABLE_VERSION_CHECK": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(place / "cache"),
        }  # fmt: skip
        if self.passive:
            told["OMP_WAIT_POLICY"] = "PASSIVE"
        if not self.arguments["use_cpu"]:
            told["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        return own | told


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    Platform.add_arguments(parser)
    parser.add_argument("--training-url", help="default: what ./imts status says")


def training_url(arguments: argparse.Namespace) -> str:
    if arguments.training_url:
        return str(arguments.training_url)
    status = subprocess.run([ROOT / "imts", "status", "--json"], capture_output=True, text=True, check=False)
    [url] = [one["url"] for one in json.loads(status.stdout)["services"] if one["name"] == "training"]
    return str(url)
