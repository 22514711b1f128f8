"""How soon a training job heeds a stop, and how closely a watcher follows its steps.

Each round starts a long job, watches it on the live stream, and once it has trained some steps posts a stop. Measured:
from before the request is sent until the `stopped` event arrives on the stream, and by the platform's own clock until
the job's `endedAt`; and whether a checkpoint is there of the very step that was the last to train. Of each step's
`metric` event that arrives live: the time at which it was read less the event's `at`, at which the engine said it; the
worker must run on this machine, or both clocks agree.

    python benchmarks/training_stop.py [--rounds 20] [--model builtin:tiny-qwen3] [--after 5]
"""

import argparse
import json
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from platform_at_hand import Platform, machine
from training_at_hand import Training, moment, percentiles

NEVER = 100_000
"""Steps: more than any round trains."""


@dataclass
class Watcher:
    """Reads a job's events to the end."""

    training: Training
    job_id: str
    states: dict[str, float] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)
    steps: int = 0

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        opened = time.time()
        for read_at, event in self.training.stream(self.job_id):
            data: dict[str, Any] = event["data"]
            if event["type"] == "state":
                self.states[data["state"]] = read_at
            if event["type"] == "metric" and "loss" in data:
                self.steps = data["step"]
                if moment(event["at"]) > opened + 1:
                    self.lags.append(read_at - moment(event["at"]))


@dataclass
class Round:
    stopped: float
    by_platform: float
    saved: bool
    last_step: int
    step_seconds: float
    lags: list[float]


def one(training: Training, body: dict[str, Any], after: int, chance: random.Random) -> Round:
    job_id = training.submit(**body)
    watcher = Watcher(training, job_id)
    while watcher.steps < after:
        if not watcher.thread.is_alive():
            raise SystemExit(f"The job ended before it was stopped: {training.job(job_id)}")
        time.sleep(0.05)
    time.sleep(chance.uniform(0, 1))
    began = time.time()
    training.told("POST", f"/api/jobs/{job_id}/stop")
    job = training.ended(job_id, 120)
    watcher.thread.join(30)
    if job["state"] != "stopped" or "stopped" not in watcher.states:
        raise SystemExit(f"The job was not stopped, or its stream did not say so: {job}")
    losses = training.losses(job_id)
    checkpoints = training.told("GET", f"/api/jobs/{job_id}/checkpoints")["items"]
    points = training.told("GET", f"/api/jobs/{job_id}/metrics", params={"names": "loss", "points": 10_000})["points"]
    took = moment(points[-1]["at"]) - moment(points[0]["at"])
    return Round(
        stopped=watcher.states["stopped"] - began,
        by_platform=moment(job["endedAt"]) - began,
        saved=max(losses) in [checkpoint["step"] for checkpoint in checkpoints],
        last_step=max(losses),
        step_seconds=took / max(1, len(points) - 1),
        lags=watcher.lags,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    Platform.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", default="builtin:tiny-qwen3")
    parser.add_argument("--after", type=int, default=5, help="steps that are trained before the stop")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    training = Training.at(Platform.from_arguments(arguments))
    chance = random.Random(arguments.seed)
    body = {
        "modelName": arguments.model,
        "dataset": "alpaca_en_demo",
        "batchSize": 2,
        "cutoffLength": 256,
        "seed": 42,
        "maxSteps": NEVER,
        "saveMinutes": 0,
        "name": "stop",
    }
    rounds = []
    for number in range(1, arguments.rounds + 1):
        rounds.append(one(training, body, arguments.after, chance))
        last = rounds[-1]
        print(
            f"round {number}/{arguments.rounds}: stopped after {last.stopped:.2f} s at step {last.last_step}, "
            f"checkpoint {'there' if last.saved else 'MISSING'}",
            file=sys.stderr,
        )
    lags = [lag for found in rounds for lag in found.lags]
    report = {
        "machine": machine(),
        "model": arguments.model,
        "stop_seconds": {
            **percentiles([found.stopped for found in rounds], 0.5, 0.95),
            "max": round(max(found.stopped for found in rounds), 3),
        },
        "stop_seconds_until_ended_at": percentiles([found.by_platform for found in rounds], 0.5, 0.95),
        "step_seconds": percentiles([found.step_seconds for found in rounds], 0.5, 0.95),
        "checkpoint_of_the_stopped_step": f"{sum(found.saved for found in rounds)} of {len(rounds)}",
        "event_lag_seconds": percentiles(lags, 0.5, 0.95, 0.99),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
