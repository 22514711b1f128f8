"""Workers as the world sees them."""

from datetime import datetime

from pydantic import Field

from imts_shared.contracts.base import Answer
from imts_shared.contracts.internal import Device
from imts_shared.contracts.jobs import JobKind


class Worker(Answer):
    id: str
    name: str
    service: str
    kinds: list[JobKind]
    slots: int
    busy: int = Field(description="Slots that are taken; a job for several GPUs takes several.")
    host: str
    pid: int
    version: str
    devices: list[Device]
    alive: bool
    draining: bool
    started_at: datetime
    seen_at: datetime


class WorkerPage(Answer):
    items: list[Worker]
    next_cursor: str | None = None
