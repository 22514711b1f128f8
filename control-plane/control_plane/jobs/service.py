"""Submitting, finding, ordering about, cloning and deleting jobs."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import psycopg
from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from control_plane.access.caller import Caller
from control_plane.access.rows import ProjectRow
from control_plane.database import Database, new_id, parse_id
from control_plane.hints import DELIVERIES, QUEUE, QUOTAS, job_hint
from control_plane.jobs.answers import job_answers, new_job_answer
from control_plane.jobs.intake import Draft, Intake, Stored, store
from control_plane.jobs.lifecycle import Happening
from control_plane.jobs.queue import QueueView, gpus_of
from control_plane.jobs.references import FOUND_FIELDS, References, check_still_there
from control_plane.jobs.rows import JobRow
from control_plane.jobs.transitions import Changes, apply, lock_job
from control_plane.models.service import check_made_nothing
from control_plane.problems import Refusal, not_found
from control_plane.storage.rows import trash
from imts_shared.contracts.envelope import JobRequest
from imts_shared.contracts.jobs import FINAL_STATES, Job, JobKind, JobState

ENVELOPE = frozenset(JobRequest.model_fields)


@dataclass
class NewJob:
    kind: JobKind
    project: str
    name: str | None
    priority: int
    labels: dict[str, str]
    spec: dict[str, Any]
    max_attempts: int
    timeout_seconds: int | None
    created_by: UUID
    clone_of: UUID | None = None

    @classmethod
    def from_request(cls, kind: JobKind, request: JobRequest, caller: Caller) -> "NewJob":
        spec = request.model_dump(mode="json", by_alias=True, exclude=set(ENVELOPE), exclude_none=True)
        return cls(
            kind=kind,
            project=caller.writes_in(request.project),
            name=request.name,
            priority=request.priority,
            labels=request.labels,
            spec=spec,
            max_attempts=request.max_attempts,
            timeout_seconds=request.timeout_seconds,
            created_by=caller.key_id,
        )

    def digest(self) -> bytes:
        content = [self.kind, self.project, self.name, self.priority, self.labels, self.spec]
        more = [self.max_attempts, self.timeout_seconds, str(self.clone_of)]
        return hashlib.sha256(orjson.dumps([*content, *more], option=orjson.OPT_SORT_KEYS)).digest()


async def drafted(references: References, new: NewJob, idempotency_key: str | None) -> Draft:
    """The job as it would be stored, with what it refers to as that is now."""
    digest = new.digest() if idempotency_key else None
    referred = await references.find(new.kind, new.project, new.spec)
    return Draft(
        id=new_id(),
        project=new.project,
        kind=str(new.kind),
        name=new.name,
        priority=new.priority,
        labels=new.labels,
        spec=referred.spec,
        max_attempts=new.max_attempts,
        timeout_seconds=new.timeout_seconds,
        created_by=new.created_by,
        clone_of=new.clone_of,
        key=idempotency_key,
        hash=digest.hex() if digest else None,
        datasets=referred.datasets,
        models=referred.models,
    )


class Submissions:
    """Takes submissions of one process. What every submission asks of the database first is remembered for a second,
    and forgotten at a hint that it has changed.
    """

    REMEMBERED_SECONDS = 1.0

    def __init__(self, database: Database, intake: Intake, queue: QueueView, references: References) -> None:
        self._database = database
        self._intake = intake
        self._queue = queue
        self._no_quota: dict[str, float] = {}
        self._references = references

    def hear(self, hint: str) -> None:
        if hint == QUOTAS:
            self._no_quota.clear()
        self._references.hear(hint)

    async def submit(self, new: NewJob, idempotency_key: str | None, changes: Changes) -> tuple[Job, bool]:
        """The job and True, or False with the job that the same request had made before."""
        draft = await drafted(self._references, new, idempotency_key)
        digest = bytes.fromhex(draft.hash) if draft.hash else None
        if await self._has_quota(new.project):
            stored = await self._store_within_quota(draft, digest)
        else:
            stored = await self._store(draft)
        if stored is None:
            return await self._made_before(draft, digest), False
        await self._queue.count_in(self._database, draft.kind, draft.priority)
        changes.hints.update({QUEUE, job_hint(draft.id)})
        if stored.told_webhooks:
            changes.hints.add(DELIVERIES)
        wait = self._queue.wait(
            draft.kind, draft.project, self._queue.depth(draft.kind, draft.priority), gpus=gpus_of(draft.spec)
        )
        return new_job_answer(draft, stored, wait), True

    async def _has_quota(self, project: str) -> bool:
        now = time.monotonic()
        if now - self._no_quota.get(project, -1e9) < self.REMEMBERED_SECONDS:
            return False
        async with self._database.transaction() as session:
            row = await session.get(ProjectRow, project)
        if row is None:
            raise not_found("project", project)
        if row.max_queued_jobs is None:
            self._no_quota[project] = now
        return row.max_queued_jobs is not None

    async def _store(self, draft: Draft) -> Stored | None:
        try:
            return await self._intake.store(draft)
        except psycopg.errors.ForeignKeyViolation:
            raise self._reference_gone() from None

    def _reference_gone(self) -> Refusal:
        self._references.forget()
        return Refusal(
            409, "reference_gone", "Something that the job refers to was deleted just now.", hint="Try again."
        )

    async def _store_within_quota(self, draft: Draft, digest: bytes | None) -> Stored | None:
        try:
            return await self._store_counted(draft, digest)
        except IntegrityError as error:
            if isinstance(error.orig, psycopg.errors.ForeignKeyViolation):
                raise self._reference_gone() from None
            raise

    async def _store_counted(self, draft: Draft, digest: bytes | None) -> Stored | None:
        async with self._database.transaction() as session:
            if draft.key and digest and await _same_key(session, draft.project, draft.key, digest):
                return None
            await check_queue_quota(session, draft.project)
            return await store(session, draft)

    async def _made_before(self, draft: Draft, digest: bytes | None) -> Job:
        assert draft.key
        assert digest
        async with self._database.transaction() as session:
            before = await _same_key(session, draft.project, draft.key, digest)
            if before is not None:
                return (await job_answers(session, [before], self._queue))[0]
        raise Refusal(409, "conflict", "The job of this Idempotency-Key was deleted just now.", hint="Try again.")


async def _same_key(session: AsyncSession, project: str, key: str, digest: bytes) -> JobRow | None:
    row: JobRow | None = (
        await session.execute(select(JobRow).where(col(JobRow.project) == project, col(JobRow.idempotency_key) == key))
    ).scalar_one_or_none()
    if row is not None and row.request_hash != digest:
        raise Refusal(
            409,
            "idempotency_conflict",
            "This Idempotency-Key was used for another request.",
            field="Idempotency-Key",
            hint=f"It made job {row.id}. Send a new key for a new job.",
        )
    return row


async def check_queue_quota(session: AsyncSession, project: str) -> None:
    """The lock on the project's row keeps two submissions from both taking the last place."""
    row = (
        await session.execute(select(col(ProjectRow.max_queued_jobs)).where(col(ProjectRow.name) == project))
    ).one_or_none()
    if row is None:
        raise not_found("project", project)
    if row[0] is None:
        return
    most = (
        await session.execute(
            select(col(ProjectRow.max_queued_jobs)).where(col(ProjectRow.name) == project).with_for_update()
        )
    ).scalar_one()
    queued = (
        await session.execute(select(func.count()).where(col(JobRow.project) == project, col(JobRow.state) == "queued"))
    ).scalar_one()
    if most is not None and queued >= most:
        raise Refusal(
            429,
            "queue_quota_exceeded",
            f"Project {project!r} already has the {most} queued jobs that its quota allows.",
            hint="Wait until some have started, stop some, or ask an admin for a larger maxQueuedJobs.",
            headers={"Retry-After": "10"},
        )


@dataclass
class Filters:
    project: str | None = None
    kinds: Sequence[JobKind] = ()
    states: Sequence[JobState] = ()
    labels: dict[str, str] = field(default_factory=dict)
    text: str | None = None


def _words(asked: str) -> str:
    """Every word must occur, as a word's beginning: `llama ft` finds `ft-llama3`."""
    words = ["".join(c for c in word if c.isalnum() or c in "_-.") for word in asked.split()]
    return " & ".join(f"'{word}':*" for word in words if word)


NEWEST_LOOKED_AT = 5_000
_SCANS = text("SELECT set_config('enable_indexscan', :allowed, true), set_config('enable_seqscan', :allowed, true)")
"""Without plain scans only the bitmaps of the label and word indexes are left; for this transaction alone."""


async def find(session: AsyncSession, filters: Filters, before: UUID | None, limit: int) -> list[JobRow]:
    """Newest first. Ids grow with time, so a page's last id is a place that new jobs do not move.

    Postgres cannot know how rare a label or a word is, nor where its jobs lie: left to itself it sometimes walks a
    million rows for the fifty that it expects around the corner. So common ones are looked for among the newest
    jobs, and what is not found there is fetched by the label and word indexes alone.
    """
    plain = select(JobRow).order_by(col(JobRow.id).desc())
    if filters.project is not None:
        plain = plain.where(col(JobRow.project) == filters.project)
    if filters.kinds:
        plain = plain.where(col(JobRow.kind).in_([str(k) for k in filters.kinds]))
    if filters.states:
        plain = plain.where(col(JobRow.state).in_([str(s) for s in filters.states]))
    if before is not None:
        plain = plain.where(col(JobRow.id) < before)
    if not filters.labels and not filters.text:
        return list((await session.execute(plain.limit(limit))).scalars())
    words = _words(filters.text) if filters.text else None
    if words == "":
        return []
    newest = aliased(JobRow, plain.limit(NEWEST_LOOKED_AT).subquery())
    among_newest = select(newest).where(*_matches(newest, filters, words)).order_by(col(newest.id).desc())
    found = list((await session.execute(among_newest.limit(limit))).scalars())
    if len(found) == limit:
        return found
    await session.execute(_SCANS, {"allowed": "off"})
    rest = await session.execute(plain.where(*_matches(JobRow, filters, words)).limit(limit))
    await session.execute(_SCANS, {"allowed": "on"})
    return list(rest.scalars())


def _matches(row: type[JobRow], filters: Filters, words: str | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filters.labels:
        conditions.append(col(row.labels).contains(filters.labels))
    if words:
        conditions.append(col(row.search).op("@@")(func.to_tsquery("simple", words)))
    return conditions


async def get(session: AsyncSession, job_id: str, project: str | None, kind: JobKind | None = None) -> JobRow:
    identity = parse_id(job_id)
    row: JobRow | None = None
    if identity is not None:
        query = select(JobRow).where(col(JobRow.id) == identity)
        if project is not None:
            query = query.where(col(JobRow.project) == project)
        if kind is not None:
            query = query.where(col(JobRow.kind) == str(kind))
        row = (await session.execute(query)).scalar_one_or_none()
    if row is None:
        raise not_found("job", job_id)
    return row


async def order(
    session: AsyncSession,
    job_id: str,
    project: str | None,
    kind: JobKind | None,
    what: Happening,
    changes: Changes,
) -> JobRow:
    """What a user may make happen to a job: stop, pause, resume, retry."""
    row = await lock_job(session, job_id, project)
    if kind is not None and row.kind != kind:
        raise not_found("job", job_id)
    if what in {Happening.resume, Happening.retry} and row.state not in {"queued", "dispatched", "running"}:
        await check_queue_quota(session, row.project)
    if what == Happening.retry and row.state in FINAL_STATES:
        await check_still_there(session, row)
    await apply(session, row, what, changes)
    return row


async def remove(session: AsyncSession, job_id: str, project: str | None, kind: JobKind | None) -> None:
    """Takes a job that has ended away with all that it wrote."""
    row = await lock_job(session, job_id, project)
    if kind is not None and row.kind != kind:
        raise not_found("job", job_id)
    if row.state not in FINAL_STATES:
        raise Refusal(
            409, "job_not_ended", f"The job is {row.state}; only a job that has ended can be deleted.",
            hint="Stop it first.",
        )  # fmt: skip
    await check_made_nothing(session, row.id)
    await trash(session, f"jobs/{row.id}/")
    await session.execute(delete(JobRow).where(col(JobRow.id) == row.id))


def clone_of(row: JobRow, caller: Caller) -> NewJob:
    spec = {name: value for name, value in row.spec.items() if name not in FOUND_FIELDS}
    return NewJob(
        kind=JobKind(row.kind),
        project=row.project,
        name=row.name,
        priority=row.priority,
        labels=row.labels,
        spec=spec,
        max_attempts=row.max_attempts,
        timeout_seconds=row.timeout_seconds,
        created_by=caller.key_id,
        clone_of=row.id,
    )
