"""Putting models into the registry: those that an attempt reports with its end, and whatever else has a name."""

from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.database import new_id
from control_plane.jobs.rows import JobRow
from control_plane.models.naming import default_name
from control_plane.models.rows import JobModelRow, ModelRow
from control_plane.problems import Refusal
from imts_shared.contracts.models import ModelKind, ProducedModel

FIELD = "outcome.result.models"


async def register(session: AsyncSession, project: str, name: str, **fields: Any) -> ModelRow:
    """Stores the next version of this name. Two at once queue up at the name's lock."""
    lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 3))")
    await session.execute(lock, {"name": f"{project}/{name}"})
    newest = select(func.max(ModelRow.version)).where(col(ModelRow.project) == project, col(ModelRow.name) == name)
    row = ModelRow(
        id=new_id(),
        project=project,
        name=name,
        version=((await session.execute(newest)).scalar() or 0) + 1,
        created_at=await session.scalar(text("SELECT clock_timestamp()")),
        **fields,
    )
    session.add(row)
    await session.flush()
    return row


async def base_of(session: AsyncSession, job: JobRow, named: str | None) -> UUID | None:
    """The id of the registered model that the job calls so."""
    query = select(col(JobModelRow.model_id)).where(
        col(JobModelRow.job_id) == job.id, col(JobModelRow.named) == (named or "")
    )
    found: UUID | None = (await session.execute(query)).scalar_one_or_none()
    return found


async def register_produced(
    session: AsyncSession, job: JobRow, result: dict[str, Any], own_prefix: str
) -> dict[str, Any]:
    """The result as the world reads it: each of its `models` is registered and named by its id."""
    produced = [_checked(entry, own_prefix) for entry in _entries(result["models"])]
    told = []
    for model in produced:
        row = await _register(session, job, model)
        told.append({"id": str(row.id), "name": row.name, "version": row.version, "kind": row.kind, "bytes": row.bytes})
    return {**result, "models": told}


def _entries(models: Any) -> list[Any]:
    if not isinstance(models, list):
        raise Refusal(422, "bad_model", "The models of a result are a list.", field=FIELD)
    return models


def _checked(entry: Any, own_prefix: str) -> ProducedModel:
    try:
        model = ProducedModel.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refusal(422, "bad_model", f"{place}: {first['msg']}.", field=FIELD) from None
    model.prefix = model.prefix.rstrip("/")
    if not model.prefix.startswith(own_prefix) or ".." in model.prefix:
        raise Refusal(
            422,
            "foreign_file",
            f"The attempt may only name files under {own_prefix}.",
            field=FIELD,
            hint="Give each model a folder of its own there.",
        )
    if model.kind == ModelKind.base or model.bytes < 0 or model.files < 0:
        raise Refusal(422, "bad_model", "An attempt makes adapters, merged models or GGUF files.", field=FIELD)
    return model


async def _register(session: AsyncSession, job: JobRow, model: ProducedModel) -> ModelRow:
    return await register(
        session,
        job.project,
        default_name(job, model.base_model, model.name),
        kind=str(model.kind),
        base_model=model.base_model,
        base_model_id=await base_of(session, job, model.base_model),
        template=model.template or job.spec.get("template"),
        job_id=job.id,
        prefix=model.prefix,
        bytes=model.bytes,
        files=model.files,
        sha256=model.sha256,
        details=model.details,
        metrics=model.metrics,
        card=model.card,
        created_by=job.created_by,
    )
