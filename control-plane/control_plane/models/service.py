"""Base models registered by hand, changes to a model, and its deletion."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped
from sqlmodel import col

from control_plane.access.caller import Caller
from control_plane.jobs.rows import JobRow
from control_plane.models.finding import get_model, made_with
from control_plane.models.registering import register
from control_plane.models.rows import CheckpointRow, JobModelRow, ModelRow
from control_plane.problems import Refusal, not_found
from control_plane.storage.rows import trash
from imts_shared.contracts.access import Role
from imts_shared.contracts.jobs import FINAL_STATES
from imts_shared.contracts.models import ModelChange, ModelKind, ModelRequest


def _check_may_trust(caller: Caller) -> None:
    if caller.role != Role.admin:
        raise Refusal(
            403,
            "role_too_small",
            f"A key of role {caller.role} may not decide whether a model's own code is run.",
            field="trustRemoteCode",
            hint="Leave the field out, or use a key of role admin.",
        )


async def add_base(session: AsyncSession, request: ModelRequest, caller: Caller) -> ModelRow:
    project = caller.writes_in(request.project)
    if request.trust_remote_code:
        _check_may_trust(caller)
    if await session.scalar(text("SELECT 1 FROM projects WHERE name = :p"), {"p": project}) is None:
        raise not_found("project", project)
    return await register(
        session,
        project,
        request.name,
        kind=str(ModelKind.base),
        source=request.source,
        template=request.template,
        trust_remote_code=request.trust_remote_code,
        created_by=caller.key_id,
    )


async def change(session: AsyncSession, named: str, asked: ModelChange, caller: Caller) -> ModelRow:
    row = await get_model(session, caller.project, named)
    if asked.trust_remote_code is not None:
        _check_may_trust(caller)
        row.trust_remote_code = asked.trust_remote_code
    if "template" in asked.model_fields_set:
        row.template = asked.template
    return row


async def remove(session: AsyncSession, named: str, caller: Caller) -> None:
    """Takes a model away with its files. Jobs are locked before the model: an attempt that ends locks them so too."""
    row = await get_model(session, caller.project, named)
    await _lock_readers(session, row.id)
    locked = await session.execute(text("SELECT 1 FROM models WHERE id = :id FOR UPDATE"), {"id": row.id})
    if locked.first() is None:
        raise not_found("model", named)
    await _check_unused(session, row)
    await session.execute(delete(JobModelRow).where(col(JobModelRow.model_id) == row.id))
    await session.execute(delete(ModelRow).where(col(ModelRow.id) == row.id))
    if row.prefix is not None and not await _shares_files(session, row.prefix):
        await trash(session, row.prefix)


async def _lock_readers(session: AsyncSession, model_id: UUID) -> None:
    """A job that reads the model is not tried again while the model goes."""
    readers = select(col(JobModelRow.job_id)).where(col(JobModelRow.model_id) == model_id)
    await session.execute(
        select(col(JobRow.id)).where(col(JobRow.id).in_(readers)).order_by(col(JobRow.id)).with_for_update(read=True)
    )


async def _check_unused(session: AsyncSession, row: ModelRow) -> None:
    what = f"version {row.version} of model {row.name!r}"
    reader = (
        await session.execute(
            select(col(JobRow.id))
            .join(JobModelRow, col(JobModelRow.job_id) == col(JobRow.id))
            .where(
                col(JobModelRow.model_id) == row.id,
                col(JobRow.state).not_in([str(state) for state in FINAL_STATES]),
            )
            .limit(1)
        )
    ).scalar_one_or_none()
    if reader is not None:
        raise Refusal(
            409, "model_in_use", f"Job {reader} has not ended and reads {what}.", field="model",
            hint="Stop the job or wait for its end, then delete the model.",
        )  # fmt: skip
    await _check_not_deployed(session, row, what)
    made = await made_with(session, row)
    if made:
        raise Refusal(
            409,
            "model_in_use",
            f"{what[0].upper()}{what[1:]} is what {_names_of(made)} was made with.",
            field="model",
            hint="Delete what was made with it first.",
        )


_DEPLOYED = text("""
SELECT d.name FROM deployments d
WHERE EXISTS (SELECT 1 FROM deployment_revisions r WHERE r.deployment_id = d.id AND r.model_id = :id)
   OR EXISTS (SELECT 1 FROM deployment_adapters a WHERE a.deployment_id = d.id AND a.model_id = :id)
ORDER BY d.id LIMIT 10
""")


async def _check_not_deployed(session: AsyncSession, row: ModelRow, what: str) -> None:
    names = list((await session.execute(_DEPLOYED, {"id": row.id})).scalars())
    if names:
        raise Refusal(
            409,
            "model_in_use",
            f"{what[0].upper()}{what[1:]} is deployed: {', '.join(names)}.",
            field="model",
            hint="Delete the deployment, take the adapter out of it, or give it another model first.",
        )


async def check_made_nothing(session: AsyncSession, job_id: UUID) -> None:
    """A job stays as long as a model's files lie among its own."""
    query = select(ModelRow).where(col(ModelRow.job_id) == job_id).order_by(col(ModelRow.id)).limit(10)
    made = (await session.execute(query)).scalars().all()
    if made:
        raise Refusal(
            409,
            "job_has_models",
            f"The job made {_names_of(made)}; the lineage and the files of a model are kept with its job.",
            field="job_id",
            hint="Delete those models first: DELETE /api/models/{model}.",
        )


def _names_of(rows: Sequence[ModelRow]) -> str:
    return ", ".join(f"{row.name}@{row.version}" for row in rows)


async def _shares_files(session: AsyncSession, prefix: str) -> bool:
    """A promoted checkpoint's files stay while the checkpoint is kept, and those of two models while one is."""
    for prefixes in (col(ModelRow.prefix), col(CheckpointRow.prefix)):
        shared = await session.execute(select(func.count()).where(overlapping(prefixes, prefix)))
        if shared.scalar_one():
            return True
    return False


def overlapping(column: Mapped[Any], prefix: str) -> ColumnElement[bool]:
    """The one folder lies within the other, or is it."""
    return or_(
        column == prefix, func.starts_with(column, f"{prefix}/"), func.starts_with(prefix, func.concat(column, "/"))
    )
