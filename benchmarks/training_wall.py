"""What the platform costs a training job: its wall time against `llamafactory-cli train` with the same configuration.

Ours: from the job's creation to its end, by the control plane's clock, so everything in between is in it: the queue,
the data, the training, the storing and registering of the model. Theirs: the command from its start to its exit. The
two alternate, and the order within a round too; the arguments are those that the training service says it would give,
and neither makes checkpoints. LLaMA-Factory is run as it comes; with `--passive` its threads give their core away while
they wait, which is quicker where others use the same cores.

    python benchmarks/training_wall.py [--rounds 3] [--steps 15] [--model builtin:smollm2-135m]
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import httpx
from platform_at_hand import ROOT, Platform, machine
from training_at_hand import EXAMPLE, Bare, Training, add_training_arguments, moment, training_url


def spread(seconds: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(seconds), 2),
        "min": round(min(seconds), 2),
        "max": round(max(seconds), 2),
    }


def arguments_of(url: str, platform: Platform, body: dict[str, Any]) -> dict[str, Any]:
    checked = httpx.post(f"{url}/validate", json=body, headers=platform.headers, timeout=120).json()
    if not checked.get("ok"):
        raise SystemExit(f"The training service refuses the job: {checked}")
    found: dict[str, Any] = checked["arguments"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--home", type=Path, help="of the platform; default: where its key file lies")
    parser.add_argument("--training-python", type=Path, help="default: IMTS_TRAINING_PYTHON, or the home's own")
    parser.add_argument("--passive", action="store_true", help="OMP_WAIT_POLICY=PASSIVE for theirs too")
    arguments = parser.parse_args()
    platform = Platform.from_arguments(arguments)
    home = arguments.home or _home(arguments)
    python = arguments.training_python or Path(
        os.environ.get("IMTS_TRAINING_PYTHON") or home / "envs" / "training" / "bin" / "python"
    )
    body = {
        "modelName": arguments.model,
        "dataset": "alpaca_en_demo",
        "stage": "sft",
        "finetuningType": "lora",
        "batchSize": 2,
        "seed": 42,
        "maxSteps": arguments.steps,
        "saveMinutes": 0,
    }
    model = home / "models" / arguments.model.replace(":", "/")
    asked = arguments_of(training_url(arguments), platform, body)
    bare = Bare(python, model, asked, EXAMPLE, arguments.passive)
    training = Training.at(platform)
    ours: list[tuple[float, float, str]] = []
    theirs: list[tuple[float, float]] = []
    for number in range(arguments.rounds):
        for turn in (0, 1):
            if turn == number % 2:
                ours.append(_ours(training, body))
                print(f"ours {ours[-1][0]:.1f} s, loss {ours[-1][1]}", file=sys.stderr)
            else:
                bare.arguments["template"] = ours[0][2]
                theirs.append(bare.run())
                print(f"llamafactory-cli {theirs[-1][0]:.1f} s, loss {theirs[-1][1]}", file=sys.stderr)
    seconds, their_seconds = spread([one[0] for one in ours]), spread([one[0] for one in theirs])
    report = {
        "machine": machine(),
        "job": {name: body[name] for name in ("modelName", "finetuningType", "maxSteps", "batchSize", "seed")},
        "rounds": arguments.rounds,
        "ours_seconds": seconds,
        "llamafactory_seconds": their_seconds,
        "ratio": round(seconds["median"] / their_seconds["median"], 3),
        "final_loss": {
            "ours": ours[-1][1],
            "llamafactory": theirs[-1][1],
            "largest_difference": round(max(abs(a[1] - b[1]) for a in ours for b in theirs), 6),
        },
        "their_wait_policy": "PASSIVE" if arguments.passive else os.environ.get("OMP_WAIT_POLICY", "unset"),
    }
    print(json.dumps(report, indent=2))


def _ours(training: Training, body: dict[str, Any]) -> tuple[float, float, str]:
    """Its seconds, its last loss, and the template that fitted the model."""
    job = training.ended(training.submit(**body, name="wall"), 3_600)
    if job["state"] != "succeeded":
        raise SystemExit(f"The job {job['state']}: {job['error']}")
    losses = training.losses(job["id"])
    made = training.told("GET", f"/api/models/{job['result']['models'][0]['id']}")
    return moment(job["endedAt"]) - moment(job["createdAt"]), losses[max(losses)], made["template"]


def _home(arguments: argparse.Namespace) -> Path:
    if arguments.key_file:
        return Path(arguments.key_file).resolve().parent.parent
    return Path(os.environ.get("IMTS_HOME") or ROOT / ".imts")


if __name__ == "__main__":
    main()
