"""From the name that a job gives to the model that it means, and what its attempt is told about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.jobs.rows import JobRow
from control_plane.models.finding import by_ids, find_model, known_names
from control_plane.models.rows import JobModelRow, ModelRow
from control_plane.problems import Refusal
from imts_shared.contracts.faults import nearest
from imts_shared.contracts.models import BUILTIN_MODELS, ModelInput, ModelKind

MODEL_FIELDS = ("modelName", "adapter", "rewardModel", "refModel", "judgeModel")
BUILTIN = "builtin:"


@dataclass(frozen=True)
class Resolved:
    """`model_id` is None for what the registry does not hold: a built-in model, a path or a hub id."""

    named: str
    model_id: UUID | None = None


def outside_the_registry(named: str, field: str) -> bool:
    """Whether the name is not one of the registry's at all. A built-in model must be one that there is."""
    if named.startswith(BUILTIN):
        if named not in BUILTIN_MODELS:
            raise _unknown(named, field, nearest(named, BUILTIN_MODELS))
        return True
    return "/" in named


async def resolve_model(session: AsyncSession, project: str, named: str, field: str = "modelName") -> Resolved:
    """What a new job of this project will read, or why it cannot."""
    if outside_the_registry(named, field):
        return Resolved(named)
    row = await find_model(session, project, named)
    if row is None:
        raise _unknown(named, field, await _nearest_known(session, project, named))
    return Resolved(named, row.id)


async def _nearest_known(session: AsyncSession, project: str, named: str) -> str | None:
    short = {name.removeprefix(BUILTIN): name for name in BUILTIN_MODELS}
    found = nearest(named.partition("@")[0], [*await known_names(session, project), *short])
    return short.get(found, found) if found else None


def _unknown(named: str, field: str, close: str | None) -> Refusal:
    cure = "Name a registered model, one of " + ", ".join(BUILTIN_MODELS) + ", a path or a hub id such as org/name."
    return Refusal(
        404,
        "unknown_model",
        f"There is no model {named!r} here.",
        field=field,
        hint=f"Did you mean {close!r}?" if close else cure,
    )


async def inputs_of(session: AsyncSession, job: JobRow) -> list[ModelInput]:
    """The registered models that an attempt of the job may read."""
    query = select(col(JobModelRow.named), col(JobModelRow.model_id)).where(col(JobModelRow.job_id) == job.id)
    read = (await session.execute(query.order_by(col(JobModelRow.named)))).all()
    return await inputs_for(session, [(named, model_id) for named, model_id in read])


async def inputs_for(session: AsyncSession, read: Sequence[tuple[str, UUID]]) -> list[ModelInput]:
    """Without those that were deleted just now: the database refuses a job that refers to them."""
    known: dict[UUID, ModelRow] = {}
    missing = {model_id for _, model_id in read}
    while missing:
        known.update(await by_ids(session, missing))
        missing = {base for row in known.values() if (base := _stands_on(row)) is not None and base not in known}
    return [_input(named, known[model_id], known) for named, model_id in read if model_id in known]


def _stands_on(row: ModelRow) -> UUID | None:
    return row.base_model_id if row.kind == ModelKind.adapter else None


def _input(named: str, row: ModelRow, known: dict[UUID, ModelRow]) -> ModelInput:
    base = _stands_on(row)
    return ModelInput(
        named=named,
        id=str(row.id),
        name=row.name,
        version=row.version,
        kind=ModelKind(row.kind),
        prefix=row.prefix,
        source=row.source,
        sha256=row.sha256,
        template=row.template,
        trust_remote_code=row.trust_remote_code,
        base=_input(row.base_model or "", known[base], known) if base is not None else None,
        base_name=row.base_model if row.base_model_id is None else None,
    )
