"""Data sets: formats, what is wrong with a row, and what an inspection finds."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from imts_shared.contracts.base import Answer, Request

FileType = Literal["json", "jsonl", "csv", "parquet"]


class DatasetFormat(StrEnum):
    alpaca = "alpaca"
    sharegpt = "sharegpt"
    messages = "messages"
    preference = "preference"
    kto = "kto"
    text = "text"
    unknown = "unknown"


class RowProblem(Answer):
    """`line` is the line of the file (JSONL, CSV) or the number of the row (JSON arrays, Parquet), from 1."""

    line: int
    code: str
    message: str


class InspectRequest(Request):
    key: str = Field(description="Where the file lies in storage.")
    file_name: str
    format: DatasetFormat | None = Field(None, description="Take it for this format instead of recognising one.")


class Inspection(Answer):
    """What reading the whole file showed. `problems` holds the first ones; `bad_rows` counts all."""

    file_type: FileType
    format: DatasetFormat
    rows: int
    bad_rows: int
    problems: list[RowProblem]
    columns: list[str]
    sample: list[dict[str, Any]]


class PreviewRequest(Request):
    key: str
    file_type: FileType
    offset: int = Field(0, ge=0)
    limit: int = Field(20, ge=1, le=500)


class PreviewAnswer(Answer):
    rows: list[Any]


class Dataset(Answer):
    id: str
    name: str
    version: int
    project: str
    state: Literal["ready", "unchecked", "unreadable"]
    format: DatasetFormat | None
    file_type: FileType | None
    file_name: str
    rows: int | None
    bad_rows: int | None
    bytes: int
    sha256: str
    columns: list[str]
    created_at: datetime


class DatasetPage(Answer):
    items: list[Dataset]
    next_cursor: str | None = None


class ProblemPage(Answer):
    items: list[RowProblem]
    next_cursor: str | None = None
    kept: int = Field(description="How many problems are listed at most; badRows counts them all.")


class DatasetPreview(Answer):
    items: list[Any]
    offset: int
