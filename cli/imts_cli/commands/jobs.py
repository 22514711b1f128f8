"""imts jobs"""

from typing import Annotated, Any

import typer

from imts_cli.commands import orders
from imts_cli.commands.exits import command_group
from imts_cli.commands.job_request import build, check_kind, labels_from
from imts_cli.commands.orders import JobId
from imts_cli.commands.output import age, clean, clock, pairs, progress, size, table
from imts_cli.commands.platform import (
    All,
    AsJson,
    Limit,
    fetch,
    fetch_list,
    print_json,
    print_json_line,
    transport,
)
from imts_client.calls import jobs as calls

app = command_group("Jobs: submit, list, watch and steer them.")


@app.command()
def submit(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="training, analysis, evaluation or export.")],
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields.")] = None,
    file: Annotated[str | None, typer.Option("-f", "--file", help="Fields as YAML or JSON; - reads stdin.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    project: Annotated[str | None, typer.Option(help="Only an admin key may name another project.")] = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100; higher goes first.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value; may be repeated.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key never makes a second job.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Watch the job until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job, for example: imts jobs submit analysis dataset=faq --watch"""
    options = {"name": name, "project": project, "priority": priority, "labels": labels_from(label or [])}
    fields = build(kind, file, assignments or [], options)
    job = fetch(calls.submit_fields(kind, fields, idempotency_key))
    if watch and as_json:
        print_json_line(job)
    elif as_json:
        print_json(job)
    else:
        print(f"Job {job['id']} is {job['state']}{_why_waiting(job)}.")
    if watch:
        from imts_cli.commands.watch import watch as watch_job

        raise typer.Exit(watch_job(job["id"], as_json))


@app.command("list")
def list_jobs(
    state: Annotated[list[str] | None, typer.Option(help="Only this state; may be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value; all that are given must hold.")] = None,
    text: Annotated[str | None, typer.Option(help="Words in name, labels and specification.")] = None,
    project: Annotated[str | None, typer.Option(help="One project.")] = None,
    limit: Limit = 50,
    everything: All = False,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    for one in kind or []:
        check_kind(one)
    listing = calls.find(state or [], kind or [], labels_from(label or []), text, project)
    found = fetch_list(listing, None if everything else limit)
    if as_json:
        print_json(found)
        return
    table(
        ("ID", "KIND", "STATE", "PROGRESS", "NAME", "CREATED"),
        (
            (job["id"], job["kind"], job["state"], progress(job), job["name"], age(job["createdAt"]))
            for job in found["items"]
        ),
        "There are no such jobs.",
    )


@app.command()
def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show a job."""
    job = fetch(calls.get(job_id))
    if as_json:
        print_json(job)
        return
    error = job.get("error") or {}
    pairs(
        (
            ("id", job["id"]),
            ("name", job.get("name")),
            ("kind", job["kind"]),
            ("project", job["project"]),
            ("state", job["state"] + (f" ({job['reason']})" if job.get("reason") else "")),
            ("waiting for", (job.get("waitingFor") or {}).get("message")),
            ("position", job.get("queuePosition")),
            ("expected", age(job.get("expectedStartAt"))),
            ("progress", progress(job)),
            ("attempt", f"{job['attempt']} ({job['tries']} of {job['maxAttempts']} tries)"),
            ("priority", job["priority"]),
            ("labels", ", ".join(f"{key}={value}" for key, value in job["labels"].items())),
            ("created", age(job["createdAt"])),
            ("started", age(job.get("startedAt"))),
            ("ended", age(job.get("endedAt"))),
            ("worker", job.get("workerId")),
            *((f"spec.{name}", value) for name, value in job["spec"].items()),
            *((f"result.{name}", value) for name, value in (job.get("result") or {}).items()),
            ("error", f"{error['code']}: {error['message']}" if error else None),
            ("hint", error.get("hint")),
        )
    )


@app.command()
def watch(
    job_id: JobId,
    after: Annotated[int, typer.Option(min=0, help="Only what follows the event with this number.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Watch a job until it ends. Ctrl-C only ends the watching. With --json: an event a line."""
    from imts_cli.commands.watch import watch as watch_job

    raise typer.Exit(watch_job(job_id, as_json, after))


@app.command()
def wait(job_id: JobId, as_json: AsJson = False) -> None:
    """Wait silently until a job has ended or is paused; the exit code tells how."""
    from imts_cli.commands.watch import EXIT_CODES, wait_quietly

    job = wait_quietly(job_id)
    if as_json:
        print_json(job)
    raise typer.Exit(EXIT_CODES[job["state"]])


@app.command()
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the job ends.")] = False,
    attempt: Annotated[int | None, typer.Option(min=0, help="Only this attempt's lines.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a job's log lines. With --json: one document, or with -f a line each."""
    if not follow:
        listing = calls.logs(job_id, attempt)
        if as_json:
            print_json(fetch_list(listing, None))
            return
        for line in transport().pages(listing):
            print(clean(line["text"]))
        return
    from imts_cli.commands.watch import follow_log

    raise typer.Exit(follow_log(job_id, attempt, as_json))


@app.command()
def events(job_id: JobId, limit: Limit = 100, everything: All = False, as_json: AsJson = False) -> None:
    """List what has happened to a job, oldest first."""
    from imts_cli.commands.output import metrics_text, progress_text
    from imts_cli.commands.watch import event_text

    found = fetch_list(calls.events(job_id), None if everything else limit)
    if as_json:
        print_json(found)
        return
    told = {"progress": progress_text, "metric": metrics_text}
    table(
        ("SEQ", "TIME", "TYPE", "WHAT"),
        (
            (
                event["seq"],
                clock(event["at"]),
                event["type"],
                told[event["type"]](event["data"])
                if event["type"] in told
                else event_text(event["type"], event["data"]),
            )
            for event in found["items"]
        ),
        "Nothing has happened.",
    )


@app.command()
def checkpoints(job_id: JobId, as_json: AsJson = False) -> None:
    """List a job's checkpoints, newest first."""
    from imts_client.calls.models import checkpoints as call

    found = fetch(call(job_id))
    if as_json:
        print_json(found)
        return
    table(
        ("STEP", "ATTEMPT", "SIZE", "FILES", "MODEL", "CREATED"),
        (
            (one["step"], one["attempt"], size(one["bytes"]), one["files"], one.get("modelId"), age(one["createdAt"]))
            for one in found["items"]
        ),
        "It has no checkpoints.",
    )


def _why_waiting(job: dict[str, Any]) -> str:
    waiting = job.get("waitingFor")
    return f"; {waiting['message'].rstrip('.')}" if waiting else ""


orders.register(app)
