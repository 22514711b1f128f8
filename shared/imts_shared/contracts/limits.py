"""What a key or a project may ask of models: rates by the minute, budgets by the day, week, month or in all."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from imts_shared.contracts.base import Answer, Request

Count = Annotated[int, Field(ge=0, le=10**15)]
Money = Annotated[float, Field(ge=0, le=10**12)]


class Period(StrEnum):
    """Calendar periods, in UTC."""

    day = "day"
    week = "week"
    month = "month"
    total = "total"


class Limits(Request):
    """null: no limit. A key's limits and its project's hold both."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = Field(None, description="Of prompts and answers together.")
    token_budget: Count | None = Field(None, description="Tokens in a period.")
    money_budget: Money | None = Field(None, description="Money in a period, in the currency of the prices.")
    budget_period: Period = Period.month


class Spent(Answer):
    """Of a key or a project, in the running period."""

    period: Period
    since: datetime
    requests: int = 0
    tokens: int = 0
    money: float = 0.0


class LimitsAnswer(Answer):
    limits: Limits
    spent: Spent
