"""What a job reads and runs on."""

from pydantic import Field

from imts_shared.contracts.base import Answer


class DatasetInput(Answer):
    """A data set version that the attempt may read."""

    id: str
    name: str
    version: int
    sha256: str
    format: str
    file_type: str
    key: str = Field(description="Where its file lies in storage.")
    rows: int
    bytes: int


class Device(Answer):
    kind: str
    index: int
    name: str
    memory_bytes: int | None = None
