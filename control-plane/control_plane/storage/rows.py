"""The table of storage prefixes whose files nothing names any more; the watcher deletes them."""

from sqlalchemy import BigInteger, Column, Identity, Text, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, SQLModel


class TrashRow(SQLModel, table=True):
    __tablename__ = "storage_trash"

    id: int | None = Field(
        default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True, nullable=False)
    )
    prefix: str = Field(sa_type=Text)


async def trash(session: AsyncSession, prefix: str) -> None:
    """Marks files for deletion in the same transaction that drops their rows: none is orphaned, none lost early."""
    await session.execute(insert(TrashRow), [{"prefix": prefix}])
