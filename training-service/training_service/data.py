"""The data sets of a job, as files that LLaMA-Factory reads."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from imts_shared.contracts.internal import DatasetInput
from imts_shared.worker.engine import BadConfig, BadData, EngineJob
from training_service import rows

FORMS = {
    "pt": frozenset({"text", "alpaca", "sharegpt", "messages"}),
    "sft": frozenset({"alpaca", "sharegpt", "messages"}),
    "grpo": frozenset({"alpaca", "sharegpt", "messages"}),
    "ppo": frozenset({"alpaca", "sharegpt", "messages"}),
    "rm": frozenset({"preference"}),
    "dpo": frozenset({"preference"}),
    "simpo": frozenset({"preference"}),
    "orpo": frozenset({"preference"}),
    "kto": frozenset({"kto"}),
}
"""Which formats a stage can learn from."""


@dataclass(frozen=True)
class Prepared:
    """Names for LLaMA-Factory, and the folder with the files that they stand for."""

    folder: Path
    train: list[str]
    weights: list[float]
    evaluation: str | None
    rows: int


def check_form(stage: str, dataset: DatasetInput) -> None:
    if dataset.format not in FORMS[stage]:
        fitting = " or ".join(sorted(FORMS[stage]))
        raise BadConfig(
            f"Data set {dataset.name!r} is {dataset.format}; stage {stage} learns from {fitting}.",
            "Take another stage or another data set.",
        )


def prepare(job: EngineJob, folder: Path) -> Prepared:
    folder.mkdir()
    stage = job.spec["stage"]
    by_id = {dataset.id: dataset for dataset in job.inputs}
    info: dict[str, Any] = {}
    train: list[str] = []
    weights: list[float] = []
    evaluation = None
    count = 0
    for number, use in enumerate(job.spec["datasets"]):
        dataset = by_id.get(use["id"])
        if dataset is None:
            raise BadData(f"Data set {use['name']!r} is gone.", "Upload it again and submit the job anew.")
        check_form(stage, dataset)
        name = f"data-{number}"
        written = _write(job, dataset, stage, folder / f"{name}.jsonl")
        info[name] = {"file_name": f"{name}.jsonl", **_description(stage)}
        if use["use"] == "evaluation":
            evaluation = name
        else:
            train.append(name)
            weights.append(float(use.get("weight", 1.0)))
            count += written
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return Prepared(folder, train, weights, evaluation, count)


def _write(job: EngineJob, dataset: DatasetInput, stage: str, target: Path) -> int:
    source = job.storage.local_path(dataset.key)
    if source is None or not source.is_file():
        source = target.with_suffix(".raw")
        job.storage.download(dataset.key, source)
    written = 0
    most = job.spec.get("maxSamples")
    with target.open("wb") as file:
        for number, row in enumerate(rows.read(source, dataset.file_type), 1):
            job.obey()
            if most is not None and written >= most:
                break
            try:
                found = rows.canonical(row, dataset.format)
                if stage == "pt":
                    found = {"text": rows.as_text(found)}
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise BadData(
                    f"Row {number} of {dataset.name!r} cannot be read: {type(error).__name__} {error}.",
                    "Look at the data set's problems, mend the row and upload the file again.",
                ) from error
            if stage == "grpo":
                _refuse_unpaid(found, number, dataset.name)
            file.write(orjson.dumps(found) + b"\n")
            written += 1
    if not written:
        raise BadData(f"Data set {dataset.name!r} holds no rows.")
    return written


def _refuse_unpaid(row: rows.Row, number: int, named: str) -> None:
    from training_service.prompts import problem

    if why := problem(row):
        raise BadData(f"Row {number} of {named!r} cannot be learned from: {why}", "Mend the row or leave it out.")


def _description(stage: str) -> dict[str, Any]:
    if stage == "pt":
        return {"columns": {"prompt": "text"}}
    columns = {"messages": "conversations", "system": "system", "tools": "tools"}
    if stage in ("rm", "dpo", "simpo", "orpo"):
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    if stage == "kto":
        columns["kto_tag"] = "label"
    return {
        "formatting": "sharegpt",
        "ranking": "chosen" in columns,
        "columns": columns,
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "observation_tag": "observation",
            "function_tag": "function_call",
            "system_tag": "system",
        },
    }
