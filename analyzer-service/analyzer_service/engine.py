"""The analysis engine: profiles one data set in a single pass."""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import orjson

from analyzer_service import reading
from analyzer_service.profile.duplicates import Duplicates
from analyzer_service.profile.rows import Profile
from imts_shared.contracts.internal import DatasetInput
from imts_shared.worker.engine import BadConfig, BadData, EngineJob

ROWS_BETWEEN_LOOKS = 256
METRIC_SECONDS = 1.0


def run(job: EngineJob) -> dict[str, Any]:
    if not job.inputs:
        raise BadConfig("The job names no data set.", hint="Submit it with `dataset`.")
    dataset = job.inputs[0]
    job.log(f"profiling {dataset.name} version {dataset.version}: {dataset.file_type}, {dataset.bytes} bytes")
    profile = Profile(Duplicates(job.scratch / "duplicates"))
    try:
        _pass(job, dataset, profile)
    except reading.Unreadable as error:
        raise BadData(f"{dataset.name} cannot be read: {error}", hint="Upload a mended file.") from error
    except FileNotFoundError as error:
        raise BadData(f"The file of {dataset.name} is not in storage.", hint="Upload it again.") from error
    result = {"format": dataset.format, "fileType": dataset.file_type, "bytes": dataset.bytes, **profile.summary()}
    report = job.scratch / "report.json"
    report.write_bytes(
        orjson.dumps({"dataset": dataset.model_dump(by_alias=True), **result}, option=orjson.OPT_INDENT_2)
    )
    job.artifact(report, "report.json")
    job.log(f"{profile.rows} rows, {profile.unreadable} unreadable")
    return result


def _pass(job: EngineJob, dataset: DatasetInput, profile: Profile) -> None:
    started = told = monotonic()
    total = dataset.rows or None
    for row in _rows(job, dataset):
        profile.add(row.line, row.content)
        if profile.rows % ROWS_BETWEEN_LOOKS == 0:
            job.obey()
            now = monotonic()
            left = None if total is None else max(0.0, (total / profile.rows - 1) * (now - started))
            job.progress(profile.rows, total, left)
            if now - told >= METRIC_SECONDS:
                told = now
                job.metric(profile.rows, rowsPerSecond=round(profile.rows / (now - started), 1))
    took = max(monotonic() - started, 1e-6)
    job.progress(profile.rows, profile.rows)
    job.metric(profile.rows, rowsPerSecond=round(profile.rows / took, 1))


def _rows(job: EngineJob, dataset: DatasetInput) -> Iterator[reading.Row]:
    if dataset.file_type not in reading.FILE_TYPES:
        raise BadConfig(f"No reader for files of type {dataset.file_type}.")
    return reading.rows(job.storage, dataset.key, dataset.file_type, job.scratch)
