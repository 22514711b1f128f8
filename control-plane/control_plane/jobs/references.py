"""What a new job refers to: the data set and the models that it reads. What was found is remembered for a second."""

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.database import Database
from control_plane.datasets import service as datasets
from control_plane.hints import DATASETS, MODELS
from control_plane.jobs.rows import JobRow
from control_plane.models.resolving import MODEL_FIELDS, Resolved, inputs_for, outside_the_registry, resolve_model
from control_plane.models.rows import JobModelRow
from control_plane.problems import Refusal
from control_plane.training.checker import Checker
from control_plane.training.references import training_data
from control_plane.workers.service import devices_for
from imts_shared.contracts.jobs import JobKind
from imts_shared.contracts.training import CheckRequest
from imts_shared.storage import Storage

FOUND_FIELDS = frozenset({"datasetVersion", "datasets", "modelId", "estimate", "warnings"})
"""What finding its references adds to a specification; a clone finds them anew."""


@dataclass
class Referred:
    spec: dict[str, Any]
    datasets: list[UUID] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)


class References:
    """Forgotten at a hint that something has changed."""

    REMEMBERED_SECONDS = 1.0

    def __init__(self, database: Database, storage: Storage, checker: Checker) -> None:
        self._database = database
        self._storage = storage
        self._checker = checker
        self._datasets: dict[tuple[str, str], tuple[float, tuple[UUID, int]]] = {}
        self._models: dict[tuple[str, str], tuple[float, Resolved]] = {}

    def hear(self, hint: str) -> None:
        if hint == DATASETS:
            self._datasets.clear()
        elif hint == MODELS:
            self._models.clear()

    def forget(self) -> None:
        self._datasets.clear()
        self._models.clear()

    async def find(self, kind: JobKind, project: str, spec: dict[str, Any]) -> Referred:
        """Each as it is now. Training is checked by its service too, before it is stored."""
        if kind == JobKind.analysis:
            dataset, version = await self._dataset(project, str(spec["dataset"]))
            return Referred({**spec, "datasetVersion": version}, datasets=[dataset])
        read = await self._models_read(project, spec)
        main = read.get(str(spec.get("modelName")))
        found = {**spec, "modelId": str(main)} if main is not None else spec
        models = [{"id": model_id, "named": named} for named, model_id in read.items()]
        if kind != JobKind.training:
            return Referred(found, models=models)
        request, datasets = await self._training(project, found, list(read.items()))
        checked = await self._checker.checked(request.spec, request.inputs, request.models, request.devices)
        return Referred(checked, datasets=datasets, models=models)

    async def training_request(self, project: str, spec: dict[str, Any]) -> CheckRequest:
        """A training job's names resolved, for whoever wants to check it without submitting it."""
        read = await self._models_read(project, spec)
        return (await self._training(project, spec, list(read.items())))[0]

    async def _models_read(self, project: str, spec: dict[str, Any]) -> dict[str, UUID]:
        read: dict[str, UUID] = {}
        for name in MODEL_FIELDS:
            named = spec.get(name)
            if isinstance(named, str):
                model_id = (await self._model(project, named, name)).model_id
                if model_id is not None:
                    read[named] = model_id
        return read

    async def _training(
        self, project: str, spec: dict[str, Any], read: list[tuple[str, UUID]]
    ) -> tuple[CheckRequest, list[UUID]]:
        async with self._database.transaction() as session:
            data = await training_data(session, self._storage, project, spec)
            models = await inputs_for(session, read)
            devices = await devices_for(session, JobKind.training)
        found = {**spec, "datasets": data.uses, "datasetVersion": data.uses[0]["version"]}
        return CheckRequest(spec=found, inputs=data.inputs, models=models, devices=devices), data.datasets

    async def _dataset(self, project: str, named: str) -> tuple[UUID, int]:
        remembered = self._datasets.get((project, named))
        now = time.monotonic()
        if remembered is not None and now - remembered[0] < self.REMEMBERED_SECONDS:
            return remembered[1]
        async with self._database.transaction() as session:
            row = await datasets.resolve(session, project, named, JobKind.analysis)
        if len(self._datasets) > 1_000:
            self._datasets.clear()
        self._datasets[project, named] = (now, (row.id, row.version))
        return row.id, row.version

    async def _model(self, project: str, named: str, asked_in: str) -> Resolved:
        if outside_the_registry(named, asked_in):
            return Resolved(named)
        remembered = self._models.get((project, named))
        now = time.monotonic()
        if remembered is not None and now - remembered[0] < self.REMEMBERED_SECONDS:
            return remembered[1]
        async with self._database.transaction() as session:
            resolved = await resolve_model(session, project, named, asked_in)
        if len(self._models) > 1_000:
            self._models.clear()
        self._models[project, named] = (now, resolved)
        return resolved


async def check_still_there(session: AsyncSession, row: JobRow) -> None:
    """A model may be deleted once the jobs that read it have ended; such a job cannot be tried again."""
    query = select(col(JobModelRow.named)).where(col(JobModelRow.job_id) == row.id)
    there = set((await session.execute(query)).scalars())
    for name in MODEL_FIELDS:
        named = row.spec.get(name)
        if isinstance(named, str) and named not in there and not outside_the_registry(named, name):
            raise Refusal(
                409,
                "model_gone",
                f"The model {named!r} that the job read was deleted.",
                field=name,
                hint="Submit a new job that names another model.",
            )
