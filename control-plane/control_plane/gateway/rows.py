"""The table of gateways' lives: which part of what each told was the last one applied."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Text
from sqlmodel import Field, SQLModel


class GatewayLifeRow(SQLModel, table=True):
    __tablename__ = "gateway_lives"
    __table_args__ = (CheckConstraint("number >= 0", name="gateway_lives_number_sane"),)

    gateway: str = Field(sa_column=Column(Text, primary_key=True, nullable=False))
    number: int = Field(sa_column=Column(BigInteger, nullable=False))
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
