"""What is kept for how long, and what was pruned."""

from datetime import datetime

from pydantic import Field

from imts_shared.contracts.base import Answer


class Rule(Answer):
    rule: str
    days: float | None = Field(description="null: kept for good.")
    what: str


class Pruning(Answer):
    at: datetime
    rule: str
    removed: int


class Retention(Answer):
    rules: list[Rule]
    recent: list[Pruning]
