"""What takes up space."""

from pydantic import Field

from imts_shared.contracts.base import Answer
from imts_shared.contracts.jobs import JobKind, JobState


class Use(Answer):
    count: int
    bytes: int


class JobUse(Answer):
    """A job and its checkpoints."""

    id: str
    kind: JobKind
    name: str | None = None
    state: JobState
    checkpoints: int
    bytes: int


class StorageUse(Answer):
    """A checkpoint that was promoted to a model counts as both; content that two data sets share counts once."""

    datasets: Use
    models: Use
    checkpoints: Use
    biggest_jobs: list[JobUse] = Field(description="Those whose checkpoints take most, at most ten.")
