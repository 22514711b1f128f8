"""What a training job reads: each data set as the version that it is now, with its weight and its use."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.datasets import builtin
from control_plane.datasets.finding import dataset_input
from control_plane.datasets.rows import DatasetRow
from control_plane.datasets.service import resolve
from control_plane.problems import Refusal
from imts_shared.contracts.inputs import DatasetInput
from imts_shared.contracts.jobs import JobKind
from imts_shared.storage import Storage


@dataclass
class TrainingData:
    datasets: list[UUID]
    inputs: list[DatasetInput]
    uses: list[dict[str, Any]]


async def training_data(session: AsyncSession, storage: Storage, project: str, spec: dict[str, Any]) -> TrainingData:
    asked = spec["dataset"] if isinstance(spec["dataset"], list) else [spec["dataset"]]
    found = TrainingData([], [], [])
    for place, one in enumerate(asked):
        named, weight = (one["name"], one.get("weight", 1.0)) if isinstance(one, dict) else (one, 1.0)
        field = "dataset" if len(asked) == 1 else f"dataset.{place}"
        row = await _find(session, storage, project, named, field)
        _add(found, row, {"use": "train", "weight": weight}, field)
    if spec.get("evalDataset"):
        row = await _find(session, storage, project, spec["evalDataset"], "evalDataset")
        _add(found, row, {"use": "evaluation"}, "evalDataset")
    return found


async def _find(session: AsyncSession, storage: Storage, project: str, named: str, field: str) -> DatasetRow:
    try:
        return await resolve(session, project, named, JobKind.training)
    except Refusal as refusal:
        brought = None
        if refusal.code == "unknown_dataset":
            brought = await builtin.bring(session, storage, project, named)
        if brought is not None:
            return brought
        refusal.field = field
        raise


def _add(found: TrainingData, row: DatasetRow, use: dict[str, Any], field: str) -> None:
    if row.id in found.datasets:
        raise Refusal(
            422,
            "dataset_twice",
            f"Data set {row.name!r} version {row.version} is named twice.",
            field=field,
            hint="Name it once; a larger weight draws its rows more often.",
        )
    found.datasets.append(row.id)
    found.inputs.append(dataset_input(row))
    found.uses.append({"id": str(row.id), "name": row.name, "version": row.version, **use})
