"""imts quickstart: a model learns to call functions, from nothing to an answer, in some minutes."""

import os
from pathlib import Path
from typing import Any

import typer

from imts_cli.commands.exits import FAILED
from imts_cli.commands.platform import fetch
from imts_cli.local.home import home_from_environment
from imts_cli.local.status import status
from imts_cli.local.up import up_detached
from imts_client.calls import datasets, jobs
from imts_client.uploads import Upload

EXAMPLE = Path(__file__).parents[3] / "examples" / "function_calling.jsonl"
DATASET = "quickstart-function-calling"
JOB: dict[str, Any] = {
    "name": "quickstart",
    "modelName": "builtin:smollm2-135m",
    "dataset": DATASET,
    "stage": "sft",
    "finetuningType": "lora",
    "loraRank": 16,
    "batchSize": 4,
    "learningRate": 1e-3,
    "schedule": "cosine",
    "warmupRatio": 0.1,
    "epochs": 1,
    "cutoffLength": 512,
    "gradientCheckpointing": False,
    "samples": 3,
    "outputName": "quickstart",
}


def quickstart() -> None:
    """Fine-tune the built-in model on a small function-calling data set, and see what it has learnt."""
    if not status(home_from_environment())["ready"]:
        up_detached(home_from_environment(), lambda words: print(words.partition("\n")[0], flush=True))
    if not os.environ.get("IMTS_TRAINING_PYTHON"):
        print("Training is not installed here, so there is nothing to show.")
        raise typer.Exit(FAILED)
    print(f"\n1. Uploading {EXAMPLE.name}")
    made = fetch(datasets.add(Upload(EXAMPLE), DATASET))
    print(f"   {made['rows']} rows, {made['format']}, {made['badRows']} bad")
    print("\n2. Fine-tuning builtin:smollm2-135m (LoRA)")
    job = fetch(jobs.submit_fields("training", JOB))
    _say_estimate(job)
    ended = _watched(job["id"])
    if ended["state"] != "succeeded":
        error = ended.get("error") or {}
        print(f"   The job {ended['state']}: {error.get('message', '')} {error.get('hint') or ''}")
        raise typer.Exit(FAILED)
    _say_loss(job["id"])
    print("\n4. The same questions before and after")
    for sample in ended["result"]["samples"]:
        print(f"\n   Q       {sample['prompt']}")
        print(f"   before  {_short(sample.get('before', ''))}")
        print(f"   after   {_short(sample.get('after', ''))}")
        print(f"   wanted  {_short(sample.get('expected', ''))}")
    [model] = ended["result"]["models"]
    print(f"\nThe adapter is registered as {model['name']}@{model['version']}.")
    print(f"Next:  imts jobs show {job['id']}")
    print(f"       imts models card {model['name']}")


def _say_estimate(job: dict[str, Any]) -> None:
    estimate = job["spec"].get("estimate") or {}
    if estimate.get("seconds"):
        print(
            f"   about {estimate['steps']} steps, {estimate['seconds'] / 60:.1f} minutes,"
            f" {estimate['memoryBytes'] / 1e9:.1f} GB on {estimate['device']} ({estimate['basis']})"
        )


def _watched(job_id: str) -> dict[str, Any]:
    from imts_cli.commands.views import view_for_stdout
    from imts_cli.commands.watch import Watched

    with view_for_stdout() as view:
        watched = Watched(job_id, 0, view.aside)
        for event in watched.events():
            data = event["data"]
            if event["type"] == "progress":
                view.progress(data)
            elif event["type"] == "metric":
                view.metrics({name: data[name] for name in ("step", "loss", "tokensPerSecond") if name in data})
            elif event["type"] == "state":
                view.state(data["state"])
            elif event["type"] == "message" and "Answers" not in data["text"]:
                view.line(f"   {data['text']}")
    return watched.job


def _say_loss(job_id: str) -> None:
    points = fetch(jobs.metrics(job_id, ["loss"]))["points"]
    losses = [point["values"]["loss"] for point in points]
    part = max(1, len(losses) // 8)
    means = [sum(some) / len(some) for start in range(0, len(losses), part) if (some := losses[start : start + part])]
    print("\n3. The loss over the run")
    print("   " + "  ".join(f"{mean:.3f}" for mean in means))


def _short(text: str) -> str:
    return " ".join(text.split())[:160]
