"""Jobs over REST: every kind under its own path, and all of them under /api/jobs."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import StringConstraints

from control_plane.access.caller import Caller
from control_plane.api.context import Context, Here, Reader, Writer
from control_plane.api.pages import Digits, IdCursor, Limit, NumberCursor, ProjectQuery, Text, answer, next_cursor
from control_plane.api.requests import StrictRoute
from control_plane.api.streams import EventStream
from control_plane.jobs import events, logs, service
from control_plane.jobs.answers import job_answers
from control_plane.jobs.lifecycle import Happening
from control_plane.jobs.transitions import Changes
from imts_shared.contracts.envelope import JobRequest
from imts_shared.contracts.jobs import (
    FINAL_STATES,
    REQUESTS,
    EventType,
    Job,
    JobEventPage,
    JobKind,
    JobPage,
    JobState,
    LogPage,
)

Responses = dict[int | str, dict[str, Any]]
IdempotencyKey = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")] | None,
    Header(
        alias="Idempotency-Key",
        description="The same key and request make one job, however often they are sent.",
    ),
]
LastEventId = Annotated[Digits, Header(alias="Last-Event-ID", description="The last event seen before a break.")]
Label = Annotated[str, StringConstraints(pattern=r"^[^=\x00]+=[^\x00]*$", max_length=400)]
States = Annotated[list[JobState] | None, Query(alias="state", description="May be given several times.")]
Kinds = Annotated[list[JobKind] | None, Query(alias="kind", description="May be given several times.")]
LabelQuery = Annotated[list[Label] | None, Query(alias="label", description="key=value; all that are given must hold.")]
TextQuery = Annotated[Text | None, Query(description="Words, or their beginnings, in name, labels and specification.")]
STREAM: Responses = {
    200: {
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "description": "A page or a stream.",
    }
}
CREATED: Responses = {200: {"model": Job, "description": "The same Idempotency-Key made this job before."}}


def labels_of(asked: Sequence[str] | None) -> dict[str, str]:
    return dict(item.split("=", 1) for item in asked or [])


async def _list(here: Context, caller: Caller, filters: service.Filters, cursor: UUID | None, limit: int) -> Response:
    filters.project = caller.reads_in(filters.project)
    async with here.database.transaction() as session:
        rows = await service.find(session, filters, cursor, limit)
        items = await job_answers(session, rows, here.queue)
    return answer(JobPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].id if rows else None)))


async def _show(here: Context, caller: Caller, job_id: str, kind: JobKind | None) -> Job:
    async with here.database.transaction() as session:
        row = await service.get(session, job_id, caller.project, kind)
        return (await job_answers(session, [row], here.queue))[0]


async def _submit(here: Context, new: service.NewJob, key: str | None) -> Response:
    changes = Changes()
    job, created = await here.submissions.submit(new, key, changes)
    changes.send(here.hints)
    headers = {"Location": f"/api/{job.kind}/jobs/{job.id}"}
    if not created:
        headers["Idempotent-Replay"] = "true"
    return answer(job, 201 if created else 200, headers)


async def _order(here: Context, caller: Caller, job_id: str, kind: JobKind | None, what: Happening) -> Response:
    changes = Changes()
    async with here.database.transaction() as session:
        row = await service.order(session, job_id, caller.project, kind, what, changes)
    changes.send(here.hints)
    async with here.database.transaction() as session:
        job = (await job_answers(session, [row], here.queue))[0]
    return answer(job)


async def _clone(here: Context, caller: Caller, job_id: str, kind: JobKind | None, key: str | None) -> Response:
    async with here.database.transaction() as session:
        row = await service.get(session, job_id, caller.project, kind)
    return await _submit(here, service.clone_of(row, caller), key)


async def _remove(here: Context, caller: Caller, job_id: str, kind: JobKind | None) -> Response:
    async with here.database.transaction() as session:
        await service.remove(session, job_id, caller.project, kind)
    return Response(status_code=204)


def _after(cursor: str) -> int:
    return min(int(cursor or 0), 2_000_000_000)


def _wants_stream(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


def _orders(router: APIRouter, path: str, kind: JobKind | None, name: str) -> None:
    """The paths that a job of one kind, and a job of any kind, share."""

    @router.get(f"{path}/{{job_id}}", response_model=Job, operation_id=f"get_{name}", summary="Show a job")
    async def show(here: Here, caller: Reader, job_id: str) -> Response:
        return answer(await _show(here, caller, job_id, kind))

    def order(what: Happening, summary: str) -> None:
        @router.post(f"{path}/{{job_id}}/{what}", response_model=Job, operation_id=f"{what}_{name}", summary=summary)
        async def endpoint(here: Here, caller: Writer, job_id: str) -> Response:
            return await _order(here, caller, job_id, kind, what)

    order(Happening.stop, "Stop a job; its engine saves what it can")
    order(Happening.pause, "Halt a job so that it can go on later")
    order(Happening.resume, "Go on with a paused job from its newest checkpoint")
    order(Happening.retry, "Try a failed or stopped job again")

    @router.post(
        f"{path}/{{job_id}}/clone",
        response_model=Job,
        status_code=201,
        responses=CREATED,
        operation_id=f"clone_{name}",
        summary="Submit the same again as a new job",
    )
    async def clone(here: Here, caller: Writer, job_id: str, key: IdempotencyKey = None) -> Response:
        return await _clone(here, caller, job_id, kind, key)

    @router.delete(
        f"{path}/{{job_id}}",
        status_code=204,
        operation_id=f"delete_{name}",
        summary="Delete a job that has ended",
    )
    async def remove(here: Here, caller: Writer, job_id: str) -> Response:
        return await _remove(here, caller, job_id, kind)


def kind_router(kind: JobKind) -> APIRouter:
    """The paths of one kind. The body's model is the kind's own, so that its documentation and errors are too."""
    router = APIRouter(prefix=f"/api/{kind}", tags=[f"{kind} jobs"], route_class=StrictRoute)
    model: type[JobRequest] = REQUESTS[kind]

    async def submit(here: Here, caller: Writer, request: JobRequest, key: IdempotencyKey = None) -> Response:
        return await _submit(here, service.NewJob.from_request(kind, request, caller), key)

    submit.__annotations__["request"] = model
    router.post(
        "/jobs",
        response_model=Job,
        status_code=201,
        responses=CREATED,
        operation_id=f"submit_{kind}_job",
        summary=f"Submit: {(model.__doc__ or '').strip()}",
    )(submit)

    @router.get("/jobs", response_model=JobPage, operation_id=f"list_{kind}_jobs", summary="List jobs, newest first")
    async def listed(
        here: Here,
        caller: Reader,
        states: States = None,
        labels: LabelQuery = None,
        text: TextQuery = None,
        project: ProjectQuery = None,
        cursor: IdCursor = None,
        limit: Limit = 50,
    ) -> Response:
        filters = service.Filters(project, [kind], states or [], labels_of(labels), text)
        return await _list(here, caller, filters, cursor, limit)

    _orders(router, "/jobs", kind, f"{kind}_job")
    return router


router = APIRouter(prefix="/api/jobs", tags=["jobs"], route_class=StrictRoute)


@router.get("", response_model=JobPage, operation_id="list_jobs", summary="List jobs of every kind, newest first")
async def list_jobs(
    here: Here,
    caller: Reader,
    kinds: Kinds = None,
    states: States = None,
    labels: LabelQuery = None,
    text: TextQuery = None,
    project: ProjectQuery = None,
    cursor: IdCursor = None,
    limit: Limit = 50,
) -> Response:
    filters = service.Filters(project, kinds or [], states or [], labels_of(labels), text)
    return await _list(here, caller, filters, cursor, limit)


_orders(router, "", None, "job")


@router.get(
    "/{job_id}/events",
    response_model=JobEventPage,
    responses=STREAM,
    operation_id="job_events",
    summary="A job's events: a page, or a live stream for `Accept: text/event-stream`",
)
async def job_events(
    request: Request,
    here: Here,
    caller: Reader,
    job_id: str,
    types: Annotated[list[EventType] | None, Query(alias="type", description="Pages only.")] = None,
    cursor: NumberCursor = "",
    limit: Limit = 100,
    last_event_id: LastEventId = "",
) -> Response:
    after = _after(last_event_id or cursor)
    async with here.database.transaction() as session:
        row = await service.get(session, job_id, caller.project)
        if not _wants_stream(request):
            items = await events.read(session, row.id, after, limit, types or ())
            last = items[-1].seq if items else None
            return answer(JobEventPage(items=items, next_cursor=next_cursor(items, limit, last)))
    return EventStream(here.live.watch(row.id, after))


@router.get(
    "/{job_id}/logs",
    response_model=LogPage,
    responses=STREAM,
    operation_id="job_logs",
    summary="A job's log lines: a page, or followed live for `Accept: text/event-stream`",
)
async def job_logs(
    request: Request,
    here: Here,
    caller: Reader,
    job_id: str,
    attempt: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    cursor: NumberCursor = "",
    limit: Annotated[int, Query(ge=1, le=5_000)] = 500,
    last_event_id: LastEventId = "",
) -> Response:
    after = _after(last_event_id or cursor)
    async with here.database.transaction() as session:
        row = await service.get(session, job_id, caller.project)
        if not _wants_stream(request):
            items = await logs.read(session, here.storage, row.id, after, limit, attempt)
            last = items[-1].line if items else None
            return answer(LogPage(items=items, next_cursor=next_cursor(items, limit, last)))
    return EventStream(_follow_logs(here, row.id, after, attempt))


async def _follow_logs(here: Context, job_id: UUID, after: int, attempt: int | None) -> AsyncIterator[bytes]:
    """Reads on each time the job has a new event; the last reading comes after the job's last event."""
    async with here.database.transaction() as session:
        row = await service.get(session, str(job_id), None)
        seen, ended = row.last_seq, row.state in FINAL_STATES
    changes = here.live.watch(job_id, seen)
    try:
        while True:
            async for chunk in _log_chunks(here, job_id, after, attempt):
                after, data = chunk
                yield data
            if ended:
                break
            news = await anext(changes, None)
            ended = news is None
            if news is not None and news.startswith(b":"):
                yield news
    finally:
        await changes.aclose()  # type: ignore[attr-defined]
    yield b"event: end\ndata: {}\n\n"


async def _log_chunks(here: Context, job_id: UUID, after: int, attempt: int | None) -> AsyncIterator[tuple[int, bytes]]:
    while True:
        async with here.database.transaction() as session:
            lines = await logs.read(session, here.storage, job_id, after, 1_000, attempt)
        if not lines:
            return
        after = lines[-1].line
        yield (
            after,
            b"".join(
                b"id: %d\ndata: %s\n\n" % (line.line, line.model_dump_json(by_alias=True).encode()) for line in lines
            ),
        )
