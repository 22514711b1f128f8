"""imts jobs stop, pause, resume, retry, clone and delete."""

from typing import Annotated, Any

import typer

from imts_cli.commands.platform import AsJson, fetch, print_json
from imts_client.calls import jobs as calls

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


def register(app: typer.Typer) -> None:
    app.command()(stop)
    app.command()(pause)
    app.command()(resume)
    app.command()(retry)
    app.command()(clone)
    app.command()(delete)


def stop(job_id: JobId, as_json: AsJson = False) -> None:
    """Stop a job; it saves what it can."""
    _tell(fetch(calls.order(job_id, "stop")), as_json)


def pause(job_id: JobId, as_json: AsJson = False) -> None:
    """Halt a job so that it can go on later."""
    _tell(fetch(calls.order(job_id, "pause")), as_json)


def resume(job_id: JobId, as_json: AsJson = False) -> None:
    """Go on with a paused job from its newest checkpoint."""
    _tell(fetch(calls.order(job_id, "resume")), as_json)


def retry(job_id: JobId, as_json: AsJson = False) -> None:
    """Try a failed or stopped job again."""
    _tell(fetch(calls.order(job_id, "retry")), as_json)


def clone(
    job_id: JobId,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key never makes a second job.")] = None,
    as_json: AsJson = False,
) -> None:
    """Submit the same again as a new job."""
    _tell(fetch(calls.clone(job_id, idempotency_key)), as_json)


def delete(job_id: JobId, as_json: AsJson = False) -> None:
    """Delete a job that has ended."""
    answer = fetch(calls.delete(job_id))
    if as_json:
        print_json(answer)
    else:
        print(f"Job {job_id} is deleted.")


def _tell(job: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        print(f"Job {job['id']} is {job['state']}.")
