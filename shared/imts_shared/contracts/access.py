"""Keys, roles, projects and webhooks."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from imts_shared.contracts.base import Answer, ProjectName, Request
from imts_shared.contracts.jobs import JobKind, JobState
from imts_shared.contracts.limits import Limits


class Role(StrEnum):
    """admin: everything in every project. member: works in one. viewer: reads one. inference: the gateway only."""

    admin = "admin"
    member = "member"
    viewer = "viewer"
    inference = "inference"


class Identity(Answer):
    """What the key at hand is."""

    key_id: str
    role: Role
    project: str | None = Field(description="null: every project (admin).")


class KeyRequest(Request):
    name: str = Field(min_length=1, max_length=100)
    role: Role = Role.member
    project: ProjectName = "default"
    expires_at: AwareDatetime | None = None
    limits: Limits | None = Field(None, description="What it may ask of models at the gateway.")


class Key(Answer):
    id: str
    name: str
    role: Role
    project: str | None
    hint: str = Field(description="The key's first characters, to tell keys apart.")
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    limits: Limits | None = None


class NewKey(Key):
    key: str = Field(description="Shown this once and stored only as a hash.")


class KeyPage(Answer):
    items: list[Key]
    next_cursor: str | None = None


class RequestLog(StrEnum):
    """What of a project's requests at the gateway is kept."""

    off = "off"
    metadata = "metadata"
    full = "full"


class Quota(Request):
    max_running_jobs: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(None, description="null: no limit.")
    max_queued_jobs: Annotated[int, Field(ge=0, le=10_000_000)] | None = Field(None, description="null: no limit.")


class RequestLogRequest(Request):
    level: RequestLog = Field(
        description="metadata: who asked which model, when, and how much; full: what was said as well, redacted."
    )


class ProjectRequest(Quota):
    name: ProjectName
    limits: Limits | None = Field(None, description="What its keys together may ask of models at the gateway.")


class Project(Answer):
    name: str
    max_running_jobs: int | None
    max_queued_jobs: int | None
    request_log: RequestLog = RequestLog.off
    limits: Limits | None = None
    created_at: datetime


class ProjectPage(Answer):
    items: list[Project]
    next_cursor: str | None = None


_NAME = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?){0,20}"
_V6 = r"\[::1\]|\[::ffff:[0-9.]{7,15}\]|\[([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}\]"
_PORT = r":([1-5][0-9]{4}|[1-9][0-9]{0,3}|6[0-4][0-9]{3})"
_URL = rf"^https?://({_NAME}|{_V6})({_PORT})?(/[!-~]*)?$"


class WebhookRequest(Request):
    url: str = Field(max_length=2_000, pattern=_URL)
    project: ProjectName | None = None
    states: list[JobState] = Field(
        default_factory=lambda: [JobState.succeeded, JobState.failed, JobState.stopped],
        description="Which states of a job are told.",
    )
    kinds: list[JobKind] = Field(default_factory=list, description="Empty: every kind.")


class Webhook(Answer):
    id: str
    url: str
    project: str
    states: list[JobState]
    kinds: list[JobKind]
    created_at: datetime


class NewWebhook(Webhook):
    secret: str = Field(description="Shown this once; deliveries are signed with it (Standard Webhooks).")


class WebhookPage(Answer):
    items: list[Webhook]
    next_cursor: str | None = None


class Delivery(Answer):
    id: str
    state: Literal["pending", "delivered", "failed"]
    event: dict[str, Any]
    tries: int
    next_try_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None


class DeliveryPage(Answer):
    items: list[Delivery]
    next_cursor: str | None = None
