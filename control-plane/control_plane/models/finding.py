"""Finding models: one by any of its names, many by filters, and what the world reads of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer
from sqlmodel import col

from control_plane.database import parse_id
from control_plane.models.naming import NAME
from control_plane.models.rows import ModelRow
from control_plane.problems import Refusal
from imts_shared.contracts.faults import nearest
from imts_shared.contracts.models import Model, ModelKind

MOST_KIN = 1_000


def light_rows() -> Select[ModelRow]:
    """Rows without their cards."""
    return select(ModelRow).options(defer(ModelRow.card, raiseload=True))  # type: ignore[arg-type]


async def find_model(session: AsyncSession, project: str | None, named: str) -> ModelRow | None:
    """A model by its id, by `name` (the newest version) or by `name@3`."""
    identity = parse_id(named)
    if identity is not None:
        row = await _first(session, light_rows().where(col(ModelRow.id) == identity), project)
        if row is not None:
            return row
    name, _, version = named.partition("@")
    if not NAME.fullmatch(name):
        return None
    query = light_rows().where(col(ModelRow.name) == name)
    if version:
        if not (version.isascii() and version.isdigit() and len(version) < 10):
            return None
        query = query.where(col(ModelRow.version) == int(version))
    return await _first(session, query, project)


async def _first(session: AsyncSession, query: Select[ModelRow], project: str | None) -> ModelRow | None:
    if project is not None:
        query = query.where(col(ModelRow.project) == project)
    query = query.order_by(col(ModelRow.version).desc(), col(ModelRow.id).desc()).limit(1)
    row: ModelRow | None = (await session.execute(query)).scalars().first()
    return row


async def get_model(session: AsyncSession, project: str | None, named: str) -> ModelRow:
    row = await find_model(session, project, named)
    if row is None:
        close = nearest(named.partition("@")[0], await known_names(session, project))
        raise Refusal(
            404,
            "unknown_model",
            f"There is no model {named!r} here.",
            field="model",
            hint=f"Did you mean {close!r}?" if close else "GET /api/models lists those that there are.",
        )
    return row


async def known_names(session: AsyncSession, project: str | None) -> list[str]:
    """Enough of them to find the one that was meant."""
    query = select(col(ModelRow.name)).distinct().limit(1_000)
    if project is not None:
        query = query.where(col(ModelRow.project) == project)
    return list((await session.execute(query)).scalars())


async def card_of(session: AsyncSession, row: ModelRow) -> str:
    card = (await session.execute(select(col(ModelRow.card)).where(col(ModelRow.id) == row.id))).scalar_one_or_none()
    return card or f"# {row.name}\n\nVersion {row.version}, {row.kind}, from {row.source or row.base_model}.\n"


def model_answer(row: ModelRow) -> Model:
    return Model(
        id=str(row.id),
        name=row.name,
        version=row.version,
        project=row.project,
        kind=ModelKind(row.kind),
        base_model=row.base_model,
        base_model_id=str(row.base_model_id) if row.base_model_id else None,
        source=row.source,
        template=row.template,
        job_id=str(row.job_id) if row.job_id else None,
        checkpoint_step=row.checkpoint_step,
        bytes=row.bytes,
        files=row.files,
        sha256=row.sha256,
        details=row.details,
        metrics=row.metrics,
        trust_remote_code=row.trust_remote_code,
        created_at=row.created_at,
    )


@dataclass
class Filters:
    project: str | None = None
    text: str | None = None
    kinds: Sequence[ModelKind] = ()
    job_id: UUID | None = None


async def find(session: AsyncSession, filters: Filters, before: UUID | None, limit: int) -> Sequence[ModelRow]:
    query = light_rows().order_by(col(ModelRow.id).desc()).limit(limit)
    if filters.project is not None:
        query = query.where(col(ModelRow.project) == filters.project)
    if filters.text:
        query = query.where(func.strpos(func.lower(ModelRow.name), filters.text.lower()) > 0)
    if filters.kinds:
        query = query.where(col(ModelRow.kind).in_([str(kind) for kind in filters.kinds]))
    if filters.job_id is not None:
        query = query.where(col(ModelRow.job_id) == filters.job_id)
    if before is not None:
        query = query.where(col(ModelRow.id) < before)
    return (await session.execute(query)).scalars().all()


async def by_ids(session: AsyncSession, ids: Iterable[UUID]) -> dict[UUID, ModelRow]:
    rows = (await session.execute(light_rows().where(col(ModelRow.id).in_(list(ids))))).scalars()
    return {row.id: row for row in rows}


_PARENTS = """
parents AS NOT MATERIALIZED (
    SELECT id AS child, base_model_id AS parent FROM models WHERE base_model_id IS NOT NULL
    UNION ALL
    SELECT m.id, read.model_id FROM models m JOIN job_models read ON read.job_id = m.job_id
)
"""
"""What a model stands on, and whatever else its job read: an adapter that was trained on, a reference."""

_ANCESTORS = text(f"""
WITH RECURSIVE {_PARENTS}, line AS (
    SELECT parent AS id, 1 AS far FROM parents WHERE child = :id
    UNION
    SELECT parents.parent, line.far + 1 FROM parents JOIN line ON parents.child = line.id WHERE line.far < :most
)
SELECT id FROM line GROUP BY id ORDER BY min(far), id LIMIT :most
""")

_DESCENDANTS = text(f"""
WITH RECURSIVE {_PARENTS}, made AS (
    SELECT child AS id FROM parents WHERE parent = :id
    UNION
    SELECT parents.child FROM parents JOIN made ON parents.parent = made.id
)
SELECT id FROM made ORDER BY id LIMIT :most
""")

_MADE_WITH = text(f"WITH {_PARENTS} SELECT DISTINCT child FROM parents WHERE parent = :id ORDER BY child LIMIT 10")


async def made_with(session: AsyncSession, row: ModelRow) -> list[ModelRow]:
    """Some of those that stand on the model, or whose job read it."""
    ids = list((await session.execute(_MADE_WITH, {"id": row.id})).scalars())
    return list((await by_ids(session, ids)).values())


async def ancestors(session: AsyncSession, row: ModelRow) -> list[ModelRow]:
    """Nearest first."""
    return await _kin(session, row, _ANCESTORS)


async def descendants(session: AsyncSession, row: ModelRow) -> list[ModelRow]:
    """Oldest first."""
    return await _kin(session, row, _DESCENDANTS)


async def _kin(session: AsyncSession, row: ModelRow, statement: object) -> list[ModelRow]:
    ids = list((await session.execute(statement, {"id": row.id, "most": MOST_KIN})).scalars())  # type: ignore[call-overload]
    rows = await by_ids(session, ids)
    return [rows[identity] for identity in ids if identity in rows]
