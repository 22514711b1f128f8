"""imts projects"""

from enum import Enum
from typing import Annotated, Any

import typer

from imts_cli.commands.exits import UsageFault, command_group
from imts_cli.commands.output import age, table
from imts_cli.commands.platform import AsJson, fetch, fetch_list, print_json
from imts_client.calls import access as calls
from imts_client.calls import limits as limit_calls

app = command_group("Projects and their quotas.")


class RequestLog(Enum):
    off = "off"
    metadata = "metadata"
    full = "full"


Name = Annotated[str, typer.Argument(metavar="NAME")]
Running = Annotated[str | None, typer.Option(help="Most jobs that run at once; none lifts the limit.")]
Queued = Annotated[str | None, typer.Option(help="Most jobs that wait; none lifts the limit.")]


@app.command()
def create(name: Name, running: Running = None, queued: Queued = None, as_json: AsJson = False) -> None:
    """Create a project."""
    limits = _limits(running, queued)
    _show(fetch(calls.create_project(name, limits.get("running"), limits.get("queued"))), as_json)


@app.command()
def quota(name: Name, running: Running = None, queued: Queued = None, as_json: AsJson = False) -> None:
    """Change a project's quotas; what is not named stays."""
    limits = _limits(running, queued)
    if not limits:
        raise UsageFault("Name --running or --queued.")
    _show(fetch(calls.set_quota(name, **limits)), as_json)


@app.command("request-log")
def request_log(
    name: Name,
    level: Annotated[RequestLog, typer.Argument(metavar="off|metadata|full")],
    as_json: AsJson = False,
) -> None:
    """Set what is kept of a project's requests at the gateway.

    metadata: who asked which model, when, and how much; full: what was said as well, redacted.
    """
    project = fetch(limit_calls.set_request_log(name, level.value))
    if as_json:
        print_json(project)
    else:
        print(f"Project {project['name']}: request log {project['requestLog']}.")


@app.command("list")
def list_projects(as_json: AsJson = False) -> None:
    """List the projects."""
    found = fetch_list(calls.projects(), None)
    if as_json:
        print_json(found)
        return
    table(
        ("NAME", "RUNNING AT MOST", "QUEUED AT MOST", "REQUEST LOG", "CREATED"),
        (
            (
                project["name"],
                _limit_text(project["maxRunningJobs"]),
                _limit_text(project["maxQueuedJobs"]),
                project.get("requestLog"),
                age(project["createdAt"]),
            )
            for project in found["items"]
        ),
        "There are no projects.",
    )


def _limits(running: str | None, queued: str | None) -> dict[str, int | None]:
    limits: dict[str, int | None] = {}
    for name, text in (("running", running), ("queued", queued)):
        if text is None:
            continue
        if text != "none" and not (text.isascii() and text.isdigit()):
            raise UsageFault(f"--{name} takes a whole number or none, not {text!r}.")
        limits[name] = None if text == "none" else int(text)
    return limits


def _limit_text(limit: int | None) -> str:
    return "no limit" if limit is None else str(limit)


def _show(project: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(project)
        return
    running, queued = _limit_text(project["maxRunningJobs"]), _limit_text(project["maxQueuedJobs"])
    print(f"Project {project['name']}: running {running}, queued {queued}.")
