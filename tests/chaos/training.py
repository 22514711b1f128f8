"""Training jobs whose engine or worker is killed at any step must end as if nobody had touched them.

    python -m tests.chaos.training --rounds 20 --seed 1

An undisturbed run says which loss each step has. In each round the same job is sent again, and once or twice its
engine's process or the whole training worker is killed, or the job is paused and resumed. Ends with 0 when every job
succeeded, every step stands once in its metrics and once in its events with the undisturbed run's loss, and no process
of a killed attempt is left. Needs the training service's python in IMTS_TEST_TRAINING_PYTHON or IMTS_TRAINING_PYTHON.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.local.conftest import free_offset

ROOT = Path(__file__).parents[2]
STEPS = 60
JOB: dict[str, Any] = {
    "modelName": "builtin:tiny-qwen3",
    "dataset": "alpaca_en_demo",
    "stage": "sft",
    "finetuningType": "lora",
    "loraDropout": 0.1,
    "batchSize": 4,
    "gradientAccumulation": 2,
    "learningRate": 1e-3,
    "maxSteps": STEPS,
    "cutoffLength": 256,
    "seed": 42,
    "saveSteps": 5,
    "saveMinutes": 0,
    "maxAttempts": 10,
}
"""Long enough to be hit, over several epochs, with dropout: a wrong row or a wrong draw shows in the loss."""
FINAL = ("succeeded", "failed", "stopped")
LOSS_APART = 5e-3
FINAL_LOSS_APART = 0.02


# the platform


class TrainingPlatform:
    def __init__(self, folder: Path, python: Path, models: Path | None = None) -> None:
        self.folder = folder.absolute()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IMTS_")},
            "IMTS_HOME": str(self.folder),
            "IMTS_PORT_OFFSET": str(free_offset()),
            "IMTS_TRAINING_PYTHON": str(python),
            "IMTS_LEASE_SECONDS": "4",
            "IMTS_CLAIM_SECONDS": "3",
            "IMTS_WORKER_GONE_SECONDS": "3",
            "IMTS_RETRY_DELAY_SECONDS": "0.2",
            "IMTS_RETRY_DELAY_MAX_SECONDS": "1",
        }
        if models is not None and (models / "builtin").is_dir():
            shutil.copytree(models / "builtin", self.folder / "models" / "builtin", dirs_exist_ok=True)

    def start(self) -> None:
        self._imts("up", "-d")
        status = json.loads(self._imts("status", "--json"))
        key = Path(status["api_key_file"]).read_text().splitlines()[0]
        self.http = httpx.Client(base_url=status["url"], headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def stop(self) -> None:
        self._imts("down")

    def _imts(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "imts_cli", *arguments]
        done = subprocess.run(
            command, env=self._environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def told(self, method: str, path: str, **more: Any) -> Any:
        answer = self.http.request(method, path, **more)
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.told("GET", f"/api/jobs/{job_id}")
        return found

    def until(self, job_id: str, true: Callable[[dict[str, Any]], bool], seconds: float = 240) -> dict[str, Any]:
        """The job when that is so of it, or when it has ended."""
        deadline = time.monotonic() + seconds
        while True:
            job = self.job(job_id)
            if job["state"] in FINAL or true(job):
                return job
            assert time.monotonic() < deadline, f"{job_id} does not come that far: {job}"
            time.sleep(0.05)

    def points(self, job_id: str) -> list[tuple[int, float]]:
        asked = {"names": "loss", "points": 10_000}
        points = self.told("GET", f"/api/jobs/{job_id}/metrics", params=asked)["points"]
        return [(point["step"], point["values"]["loss"]) for point in points]

    def told_losses(self, job_id: str) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = []
        cursor = ""
        while True:
            page = self.told(
                "GET", f"/api/jobs/{job_id}/events", params={"type": "metric", "limit": 500, "cursor": cursor}
            )
            found += [(one["data"]["step"], one["data"]["loss"]) for one in page["items"] if "loss" in one["data"]]
            if not page["nextCursor"]:
                return found
            cursor = page["nextCursor"]

    # its processes

    def worker(self) -> int | None:
        workers = self.told("GET", "/api/workers")["items"]
        pids = [one["pid"] for one in workers if one["service"] == "training-service" and one["alive"]]
        return next((pid for pid in pids if _ours(pid, self.folder)), None)

    def attempts(self) -> list[tuple[int, int]]:
        """Guard and engine of each attempt at work: the worker starts a forkserver, that the guards, those engines."""
        worker = self.worker()
        if worker is None:
            return []
        below = _children()
        return [
            (guard, engine)
            for server in below.get(worker, [])
            for guard in below.get(server, [])
            for engine in below.get(guard, [])
            if _leads(guard) and _leads(engine)
        ]

    def strays(self) -> list[int]:
        """Processes with this home that nothing of the platform stands above."""
        below = _children()
        parents = {child: parent for parent, children in below.items() for child in children}
        service = [pid for pid in parents if _ours(pid, self.folder) and "forkserver" in _command(pid)]
        return [pid for pid in service if not _under_a_service(pid, parents)]


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    found.setdefault(int(parent), []).append(int(folder.name))
    return found


def _ours(pid: int, home: Path) -> bool:
    try:
        return f"IMTS_HOME={home}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _under_a_service(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if "_service worker" in _command(pid):
            return True
    return False


def _leads(pid: int) -> bool:
    """A session of its own: imports start short-lived helpers that do not."""
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid) == pid
    return False


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# the rounds


@dataclass
class Round:
    job_id: str
    done: list[str] = field(default_factory=list)
    struck: list[int] = field(default_factory=list)
    """Guards and engines of attempts that were killed."""


class Rounds:
    def __init__(self, platform: TrainingPlatform, seed: int, tell: Callable[[str], None]) -> None:
        self.platform = platform
        self.chance = random.Random(seed)
        self.tell = tell
        self.faults: Counter[str] = Counter()

    def undisturbed(self) -> dict[int, float]:
        job_id = self.platform.told("POST", "/api/training/jobs", json={**JOB, "name": "undisturbed"})["id"]
        job = self.platform.until(job_id, lambda _: False)
        assert job["state"] == "succeeded", job
        losses = dict(self.platform.points(job_id))
        assert sorted(losses) == list(range(1, STEPS + 1)), losses
        return losses

    def play(self, number: int, deeds: list[str] | None = None) -> Round:
        if deeds is None:
            deeds = self.chance.choices(["engine", "worker", "pause"], weights=[4, 4, 2], k=self.chance.choice([1, 2]))
            if "pause" in deeds and len(deeds) == 1:
                deeds.append(self.chance.choice(["engine", "worker"]))
        job_id = self.platform.told("POST", "/api/training/jobs", json={**JOB, "name": f"round-{number}"})["id"]
        game = Round(job_id)
        step = self.chance.randrange(1, STEPS - 5)
        self.platform.until(job_id, lambda job: job["state"] == "running" and (job["progress"]["step"] or 0) >= step)
        attempt = 0
        for turn, deed in enumerate(deeds):
            if turn:
                self._wait_for_the_next_attempt(game, attempt)
            job = self.platform.job(job_id)
            attempt = job["attempt"]
            if job["state"] in FINAL:
                self.tell(f"round {number}: {deed} comes too late, the job {job['state']}")
                self.faults["too late"] += 1
                break
            self.tell(f"round {number}: {deed} at step {job['progress']['step']} of attempt {attempt}")
            done = self._do(deed, game)
            self.faults[deed if done else "missed"] += 1
            if done:
                game.done.append(deed)
        return game

    def _wait_for_the_next_attempt(self, game: Round, attempt: int) -> None:
        """And then a while: it may be hit while it loads, or when it trains."""
        self.platform.until(game.job_id, lambda job: job["state"] == "running" and job["attempt"] > attempt)
        until = time.monotonic() + self.chance.uniform(0, 6)
        self.platform.until(game.job_id, lambda _: time.monotonic() > until)

    def _do(self, deed: str, game: Round) -> bool:
        if deed == "pause":
            return self._pause(game.job_id)
        attempts: list[tuple[int, int]] = []
        deadline = time.monotonic() + 30
        while not attempts and time.monotonic() < deadline:  # a worker that just came still imports before it forks
            if self.platform.job(game.job_id)["state"] in FINAL:
                return False
            time.sleep(0.02)
            attempts = self.platform.attempts()
        worker = self.platform.worker()
        if not attempts or worker is None:
            return False
        guard, engine = attempts[0]
        game.struck += [guard, engine]
        try:
            os.kill(engine if deed == "engine" else worker, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _pause(self, job_id: str) -> bool:
        asked = self.platform.http.post(f"/api/jobs/{job_id}/pause")
        if asked.status_code == 409:
            return False
        job = self.platform.until(job_id, lambda job: job["state"] == "paused")
        if job["state"] == "paused":
            self.platform.told("POST", f"/api/jobs/{job_id}/resume")
        return True


# the judge


def judge(platform: TrainingPlatform, game: Round, reference: dict[int, float]) -> list[str]:
    """To be called when the job has ended."""
    job = platform.job(game.job_id)
    checks = [
        None if job["state"] == "succeeded" else f"ended as {job['state']} ({job['reason']}, {job['error']})",
        steps_once("metrics", platform.points(game.job_id), reference),
        steps_once("events", platform.told_losses(game.job_id), reference),
        as_undisturbed(dict(platform.points(game.job_id)), reference),
        left_behind(platform, game),
    ]
    return [f"{game.job_id} ({', '.join(game.done) or 'untouched'}): {check}" for check in checks if check]


def steps_once(where: str, points: list[tuple[int, float]], reference: dict[int, float]) -> str | None:
    counted = Counter(step for step, _ in points)
    missing = sorted(set(reference) - set(counted))
    twice = sorted(step for step, count in counted.items() if count > 1)
    beyond = sorted(set(counted) - set(reference))
    if missing or twice or beyond:
        return f"its {where} lack steps {missing}, have {twice} more than once and {beyond} beyond the last"
    if [step for step, _ in points] != sorted(counted):
        return f"its {where} are out of order: {[step for step, _ in points]}"
    return None


def as_undisturbed(losses: dict[int, float], reference: dict[int, float]) -> str | None:
    apart = {step: abs(loss - reference[step]) for step, loss in losses.items() if step in reference}
    last = max(reference)
    if last in apart and apart[last] > FINAL_LOSS_APART * abs(reference[last]):
        return f"its last loss is {losses[last]}, undisturbed {reference[last]}"
    far = [step for step, difference in sorted(apart.items()) if difference > LOSS_APART]
    if far:
        told = ", ".join(f"{step}: {losses[step]} for {reference[step]}" for step in far[:5])
        return f"{len(far)} steps have another loss than undisturbed, from step {far[0]} on: {told}"
    return None


def left_behind(platform: TrainingPlatform, game: Round, seconds: float = 10) -> str | None:
    deadline = time.monotonic() + seconds
    while True:
        struck = [pid for pid in game.struck if _lives(pid) and _ours(pid, platform.folder)]
        working = [pid for attempt in platform.attempts() for pid in attempt]
        strays = platform.strays()
        if not struck and not working and not strays:
            return None
        if time.monotonic() > deadline:
            return f"processes are left: {struck} of killed attempts, {working} of ended ones, {strays} of no worker"
        time.sleep(0.2)


def chaos(
    folder: Path, python: Path, rounds: int, seed: int, deeds: list[str] | None = None
) -> tuple[dict[str, object], list[str]]:
    models = os.environ.get("IMTS_TEST_MODELS")
    platform = TrainingPlatform(folder, python, Path(models) if models else None)
    started = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", flush=True)

    faults: list[str] = []
    furthest = 0.0
    unexplained = 0
    try:
        platform.start()
        tell("the platform is up")
        game = Rounds(platform, seed, tell)
        reference = game.undisturbed()
        tell(f"undisturbed: loss {reference[1]} to {reference[STEPS]}")
        for number in range(1, rounds + 1):
            played = game.play(number, deeds)
            job = platform.until(played.job_id, lambda _: False)
            found = judge(platform, played, reference)
            losses = dict(platform.points(played.job_id))
            apart = max((abs(loss - reference.get(step, loss)) for step, loss in losses.items()), default=0.0)
            furthest = max(furthest, apart)
            unexplained += job["attempt"] - 1 - len(played.done)
            tell(f"round {number}: {job['state']} in attempt {job['attempt']}, losses apart by {apart:.4f} at most")
            for fault in found:
                tell(f"VIOLATION {fault}")
            faults += found
    finally:
        platform.stop()
    return {
        "rounds": rounds,
        "seed": seed,
        "faults_injected": dict(sorted(game.faults.items())),
        "largest_loss_difference": round(furthest, 6),
        "attempts_beyond_those_struck": unexplained,
        "violations": len(faults),
        "seconds": round(time.monotonic() - started),
    }, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="the platform's home, kept; default: a temporary folder")
    arguments = parser.parse_args()
    python = os.environ.get("IMTS_TEST_TRAINING_PYTHON") or os.environ.get("IMTS_TRAINING_PYTHON")
    if not python:
        raise SystemExit("IMTS_TEST_TRAINING_PYTHON must name the training service's python.")
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="imts-chaos-training-"))
    summary, faults = chaos(folder, Path(python), arguments.rounds, arguments.seed)
    for fault in faults:
        print(fault)
    print(json.dumps(summary, indent=2))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
