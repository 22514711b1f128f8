"""What training leaves behind: the model's files, its card, and the figures that say how it went."""

import json
import shutil
from pathlib import Path
from typing import Any

from imts_shared.contracts.models import ModelKind, ProducedModel
from imts_shared.worker.engine import EngineJob
from training_service.models.finding import Found
from training_service.watching import Watch

NOT_OF_THE_MODEL = (
    "checkpoint-*",
    "training_args.bin",
    "trainer_state.json",
    "trainer_log.jsonl",
    "*_results.json",
    "README.md",
    "runs",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state*",
)
FIGURES = ("loss", "trainLoss", "evalLoss", "reward", "evalReward", "kl")
"""What is said of a model when it is registered."""
ADAPTERS = frozenset({"lora", "qlora", "oft"})


def kind_of(spec: dict[str, Any]) -> ModelKind:
    return ModelKind.adapter if spec["finetuningType"] in ADAPTERS else ModelKind.merged


def produced(job: EngineJob, found: Found, output: Path, watch: Watch, details: dict[str, Any]) -> ProducedModel:
    """Stores the model's files, and describes them."""
    folder = _model_alone(output, job.spec["modelName"])
    (folder / "README.md").write_text(card := _card(job, details, watch), encoding="utf-8")
    stored = job.publish(folder, "model")
    return ProducedModel(
        kind=kind_of(job.spec),
        name=job.spec.get("outputName"),
        prefix=stored.prefix,
        bytes=stored.bytes,
        files=stored.files,
        sha256=stored.sha256,
        base_model=job.spec["modelName"],
        template=details.get("template") or found.template,
        details=details,
        metrics={name: watch.metrics[name] for name in FIGURES if name in watch.metrics},
        card=card,
    )


def _model_alone(output: Path, base: str) -> Path:
    folder = output.with_name("model")
    shutil.copytree(output, folder, ignore=shutil.ignore_patterns(*NOT_OF_THE_MODEL), copy_function=_move)
    config = folder / "adapter_config.json"
    if config.is_file():
        content = json.loads(config.read_text())
        content["base_model_name_or_path"] = base
        config.write_text(json.dumps(content, indent=2, sort_keys=True))
    return folder


def _move(source: str, target: str) -> None:
    Path(source).rename(target)


def _card(job: EngineJob, details: dict[str, Any], watch: Watch) -> str:
    spec = job.spec
    data = [f"{use['name']} version {use.get('version', '?')}" for use in spec["datasets"]]
    rows: list[tuple[str, Any]] = [
        ("Base model", spec["modelName"]),
        ("Data", ", ".join(data)),
        ("Stage", spec["stage"]),
        ("Fine-tuning type", spec["finetuningType"]),
        ("Template", details.get("template")),
        ("Learning rate", spec["learningRate"]),
        ("Batch size", spec["batchSize"]),
        ("Gradient accumulation", spec.get("gradientAccumulation")),
        ("Steps", watch.steps),
        ("Tokens seen", watch.tokens),
        ("Seconds", round(watch.seconds, 1)),
        ("Device", details.get("device")),
        ("Seed", spec.get("seed")),
        *((name, f"{value:.4f}") for name, value in watch.metrics.items() if "oss" in name),
    ]
    lines = [
        f"# {spec.get('outputName') or 'Model'} of job {job.id}",
        "",
        f"Made by IMTS: {spec['modelName']} fine-tuned by {spec['stage']} ({spec['finetuningType']}).",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows if value is not None),
        "",
        "How good it is on tasks of your own is not said here: compare it with its base before you use it.",
    ]
    return "\n".join(lines) + "\n"
