"""The table of prunings: nothing is taken away without a line here."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, Text, text
from sqlmodel import Field, SQLModel


class PruneRow(SQLModel, table=True):
    __tablename__ = "prunings"
    __table_args__ = (Index("prunings_by_time", text("at DESC")),)

    id: int | None = Field(
        default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True, nullable=False)
    )
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    rule: str = Field(sa_type=Text)
    removed: int = Field(sa_type=BigInteger)
