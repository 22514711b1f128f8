"""Usage as people ask for it: added up by what they name."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.rows import KeyRow
from control_plane.database import parse_id
from control_plane.usage.counting import COUNTS
from control_plane.usage.rows import UsageRow
from imts_shared.contracts.usage import UsageLine

GROUPS = {"day": "day", "key": "key_id", "model": "model", "project": "project", "upstream": "upstream"}
"""What usage can be told apart by, and the column of each."""


@dataclass(frozen=True)
class Filters:
    project: str | None = None
    key: str | None = None
    model: str | None = None
    upstream: str | None = None
    since: date | None = None
    until: date | None = None


def _where(filters: Filters) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for column, wanted in (
        (UsageRow.project, filters.project),
        (UsageRow.key_id, filters.key),
        (UsageRow.model, filters.model),
        (UsageRow.upstream, filters.upstream),
    ):
        if wanted is not None:
            found.append(col(column) == wanted)
    if filters.since is not None:
        found.append(col(UsageRow.day) >= filters.since)
    if filters.until is not None:
        found.append(col(UsageRow.day) <= filters.until)
    return found


def _sums(groups: Sequence[str], filters: Filters) -> "Select[tuple[object, ...]]":
    columns = [col(getattr(UsageRow, name)) for name in groups]
    sums = [func.coalesce(func.sum(col(getattr(UsageRow, name))), 0).label(name) for name in (*COUNTS, "cost")]
    return select(*columns, *sums).where(*_where(filters)).group_by(*columns)


async def lines(
    session: AsyncSession, by: Sequence[str], filters: Filters, offset: int, limit: int
) -> Sequence[UsageLine]:
    """The newest day first, then in the order of what was asked for."""
    groups = [GROUPS[name] for name in dict.fromkeys(by)]
    order = [col(getattr(UsageRow, name)) for name in groups]
    ordered = [column.desc() if name == "day" else column for name, column in zip(groups, order, strict=True)]
    query = _sums(groups, filters).order_by(*ordered).offset(offset).limit(limit)
    found = [_line(dict(row)) for row in (await session.execute(query)).mappings()]
    names = await _key_names(session, {line.key_id for line in found if line.key_id is not None})
    return [line.model_copy(update={"key_name": names.get(line.key_id or "")}) for line in found]


async def total(session: AsyncSession, filters: Filters) -> UsageLine:
    return _line(dict((await session.execute(_sums((), filters))).mappings().one()))


def _line(row: dict[str, object]) -> UsageLine:
    line = UsageLine.model_validate({**row, "total_tokens": 0})
    return line.model_copy(update={"total_tokens": line.input_tokens + line.output_tokens})


async def _key_names(session: AsyncSession, ids: set[str]) -> dict[str, str]:
    known: list[UUID] = [identity for identity in map(parse_id, ids) if identity is not None]
    query = select(col(KeyRow.id), col(KeyRow.name)).where(col(KeyRow.id).in_(known))
    return {str(identity): name for identity, name in (await session.execute(query)).all()}
