"""Parting what Postgres keeps from what it refuses."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import psycopg
from pydantic_core import from_json, to_json
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.gateway.parts import Part
from control_plane.gateway.pieces import Kind

_REFUSED = ("22", "23", "54")
"""Classes of SQLSTATE: a value that cannot be, a rule of the table, a limit of Postgres."""
_Item = TypeVar("_Item")
_Kept = TypeVar("_Kept")


def cannot_be_kept(error: DBAPIError) -> bool:
    """As opposed to a database that is away, or busy: what is kept later is no loss."""
    told = error.orig
    return isinstance(told, psycopg.DataError) or (
        isinstance(told, psycopg.Error) and (told.sqlstate or "")[:2] in _REFUSED
    )


class Sieve:
    """`whole`: what Postgres refuses is refused with all that came with it. Otherwise halves of it are tried, and
    halves of these, until what is refused stands alone."""

    def __init__(self, session: AsyncSession, *, whole: bool) -> None:
        self._session = session
        self._whole = whole
        self.left_out: Counter[tuple[Kind, str]] = Counter()

    async def rows(self, part: Part, kind: Kind, keep: Callable[[str], Awaitable[_Kept]]) -> list[_Kept]:
        if not part.rows[kind]:
            return []
        if self._whole:
            return [await keep(part.json(kind))]
        return await self.items(kind, from_json(part.json(kind)), lambda items: keep(to_json(items).decode()))

    async def items(
        self, kind: Kind, items: Sequence[_Item], keep: Callable[[Sequence[_Item]], Awaitable[_Kept]]
    ) -> list[_Kept]:
        if not items:
            return []
        if self._whole:
            return [await keep(items)]
        try:
            async with self._session.begin_nested():
                return [await keep(items)]
        except DBAPIError as error:
            if not cannot_be_kept(error):
                raise
            if len(items) == 1:
                self.left_out[kind, _reason(error)] += 1
                return []
        half = len(items) // 2
        return [*await self.items(kind, items[:half], keep), *await self.items(kind, items[half:], keep)]


def _reason(error: DBAPIError) -> str:
    """Postgres's message may repeat the value; its name for the fault does not."""
    rule = error.orig.diag.constraint_name if isinstance(error.orig, psycopg.Error) else None
    return f"{type(error.orig).__name__}{f' of {rule}' if rule else ''}"
