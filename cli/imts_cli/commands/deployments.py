"""imts deployments"""

from enum import Enum
from typing import Annotated, Any

import typer

from imts_cli.commands.deploy import (
    Adapters,
    EngineArgs,
    Gpu,
    IdleSeconds,
    adapters_from,
    engine_args_from,
    tell,
)
from imts_cli.commands.deployment_watch import event_text, newest
from imts_cli.commands.deployment_watch import watch as watch_deployment
from imts_cli.commands.exits import UsageFault, command_group
from imts_cli.commands.job_request import labels_from
from imts_cli.commands.output import age, clean, clock, pairs, size, table
from imts_cli.commands.platform import All, AsJson, Limit, fetch, fetch_list, print_json, transport
from imts_client.calls import deployments as calls

app = command_group("Deployments: models that engines serve. `imts deploy MODEL` makes one.")
adapters = command_group("Adapters of a deployment.")
app.add_typer(adapters, name="adapters")

Named = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="An id or a name.")]
Watch = Annotated[bool, typer.Option("--watch", help="Watch it until it is ready or has failed.")]


@app.command("list")
def list_deployments(
    state: Annotated[list[str] | None, typer.Option(help="Only this state; may be repeated.")] = None,
    model: Annotated[str | None, typer.Option(help="Only what serves this model or adapter.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value; all that are given must hold.")] = None,
    project: Annotated[str | None, typer.Option(help="One project.")] = None,
    limit: Limit = 50,
    everything: All = False,
    as_json: AsJson = False,
) -> None:
    """List deployments, newest first."""
    listing = calls.find(state or [], model, labels_from(label or []), project)
    found = fetch_list(listing, None if everything else limit)
    if as_json:
        print_json(found)
        return
    table(
        ("NAME", "MODEL", "ENGINE", "STATE", "READY", "ADAPTERS", "CREATED", "ID"),
        (
            (
                one["name"],
                one["model"],
                one["engine"],
                one["state"] + (f" ({one['reason']})" if one.get("reason") else ""),
                f"{one['readyReplicas']}/{one['replicas']}",
                ", ".join(adapter["name"] for adapter in one["adapters"]),
                age(one["createdAt"]),
                one["id"],
            )
            for one in found["items"]
        ),
        "There are no such deployments.",
    )


class Unset(Enum):
    gpu = "gpu"
    port = "port"
    idleSeconds = "idle-seconds"


@app.command()
def show(deployment: Named, as_json: AsJson = False) -> None:
    """Show a deployment, its replicas and its adapters."""
    found = fetch(calls.get(deployment))
    if as_json:
        print_json(found)
    else:
        _show(found)


@app.command()
def watch(deployment: Named, as_json: AsJson = False) -> None:
    """Watch a deployment until it is ready, or has failed or stopped. With --json: an event a line."""
    fetch(calls.get(deployment))
    raise typer.Exit(watch_deployment(deployment, as_json))


@app.command()
def logs(
    deployment: Named,
    revision: Annotated[int | None, typer.Option(min=1, help="Only this version's lines.")] = None,
    replica: Annotated[int | None, typer.Option(min=0, help="Only this replica's lines.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the newest lines of its engines."""
    listing = calls.logs(deployment, revision, replica)
    if as_json:
        print_json(fetch_list(listing, None))
        return
    for line in transport().pages(listing):
        print(clean(line["text"]))


@app.command()
def metrics(deployment: Named, as_json: AsJson = False) -> None:
    """Show what its engines count."""
    found = fetch(calls.metrics(deployment))
    if as_json:
        print_json(found)
        return
    table(
        ("VERSION", "REPLICA", "METRIC", "VALUE"),
        (
            (one["revision"], one["number"], name, f"{value:.6g}")
            for one in found["replicas"]
            for name, value in sorted(one["values"].items())
        ),
        "Its engines have counted nothing yet.",
    )


@app.command()
def events(deployment: Named, limit: Limit = 100, everything: All = False, as_json: AsJson = False) -> None:
    """List what has happened to a deployment, oldest first."""
    found = fetch_list(calls.events(deployment), None if everything else limit)
    if as_json:
        print_json(found)
        return
    table(
        ("SEQ", "TIME", "TYPE", "WHAT"),
        ((one["seq"], clock(one["at"]), one["type"], event_text(one["type"], one["data"])) for one in found["items"]),
        "Nothing has happened.",
    )


@app.command()
def scale(
    deployment: Named,
    replicas: Annotated[int, typer.Argument(min=0, help="How many engines share the work.")],
    as_json: AsJson = False,
) -> None:
    """Set the number of replicas."""
    tell(fetch(calls.scale(deployment, replicas)), as_json)


@app.command()
def update(
    deployment: Named,
    model: Annotated[str | None, typer.Option(help="Another model.")] = None,
    engine_arg: EngineArgs = None,
    adapter: Adapters = None,
    gpu: Gpu = None,
    port: Annotated[int | None, typer.Option(help="Of the first replica.")] = None,
    replicas: Annotated[int | None, typer.Option(min=0, help="Engines that share the work.")] = None,
    start_timeout: Annotated[int | None, typer.Option(help="Seconds until it must be ready.")] = None,
    idle_seconds: IdleSeconds = None,
    drain_seconds: Annotated[int | None, typer.Option(help="What running requests get when it goes.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value; may be repeated.")] = None,
    unset: Annotated[list[Unset] | None, typer.Option(help="Back to the default; may be repeated.")] = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Change it. --engine-arg, --adapter and --label replace all that there were.

    A new model, engine argument, gpu or port comes up beside what serves, which goes on until the new one is ready.
    """
    given: dict[str, Any] = {
        "model": model,
        "engineArgs": engine_args_from(engine_arg) if engine_arg else None,
        "adapters": adapters_from(adapter) if adapter else None,
        "gpu": gpu,
        "port": port,
        "replicas": replicas,
        "startTimeoutSeconds": start_timeout,
        "idleSeconds": idle_seconds,
        "drainSeconds": drain_seconds,
        "labels": labels_from(label) if label else None,
    }
    fields = {field: value for field, value in given.items() if value is not None}
    for one in unset or ():
        if one.name in fields:
            raise UsageFault(f"--{one.value} is given and unset at once.")
        fields[one.name] = None
    if not fields:
        raise UsageFault("There is nothing to change: give an option, such as --replicas 2.")
    before = newest(deployment) if watch else 0
    told = fetch(calls.change_fields(deployment, fields))
    tell(told, as_json, in_a_line=watch)
    if watch:
        raise typer.Exit(watch_deployment(told["id"], as_json, before))


@app.command()
def stop(deployment: Named, as_json: AsJson = False) -> None:
    """End its engines; it keeps its name and can be started again."""
    tell(fetch(calls.stop(deployment)), as_json)


@app.command()
def start(deployment: Named, watch: Watch = False, as_json: AsJson = False) -> None:
    """Start one that was stopped, sleeps or has failed."""
    before = newest(deployment) if watch else 0
    told = fetch(calls.start(deployment))
    tell(told, as_json, in_a_line=watch)
    if watch:
        raise typer.Exit(watch_deployment(told["id"], as_json, before))


@app.command()
def delete(deployment: Named, as_json: AsJson = False) -> None:
    """Delete a deployment; running requests are let end."""
    answer = fetch(calls.delete(deployment))
    if as_json:
        print_json(answer)
    else:
        print(f"Deployment {deployment} is deleted.")


@adapters.command("add")
def add_adapter(
    deployment: Named,
    model: Annotated[str, typer.Argument(help="A registered adapter of its base.")],
    name: Annotated[str | None, typer.Option(help="What callers give as model; its own unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Load an adapter into its running engines."""
    told = fetch(calls.add_adapter(deployment, model, name))
    if as_json:
        print_json(told)
    else:
        print(f"Deployment {told['name']} has the adapters {', '.join(one['name'] for one in told['adapters'])}.")


@adapters.command("remove")
def remove_adapter(
    deployment: Named, name: Annotated[str, typer.Argument(help="What callers give as model.")], as_json: AsJson = False
) -> None:
    """Take an adapter out of its running engines."""
    answer = fetch(calls.remove_adapter(deployment, name))
    if as_json:
        print_json(answer)
    else:
        print(f"Adapter {name} is taken out of {deployment}.")


def _show(found: dict[str, Any]) -> None:
    error, progress = found.get("error") or {}, found.get("progress") or {}
    serving = found.get("servingRevision")
    pairs(
        (
            ("id", found["id"]),
            ("name", found["name"]),
            ("project", found["project"]),
            ("model", found["model"]),
            ("engine", found["engine"]),
            ("state", found["state"] + (f" ({found['reason']})" if found.get("reason") else "")),
            ("message", found.get("message")),
            ("progress", event_text("progress", progress) if progress else None),
            ("replicas", f"{found['readyReplicas']} of {found['replicas']} ready"),
            ("version", f"{found['revision']}" + (f" (serving: {serving})" if serving else "")),
            ("restarts", found["restarts"] or None),
            *((f"engineArgs.{name}", value) for name, value in found["engineArgs"].items()),
            ("gpu", found.get("gpu")),
            ("port", found.get("port")),
            ("sleeps after", f"{found['idleSeconds']} s" if found.get("idleSeconds") else None),
            ("labels", ", ".join(f"{key}={value}" for key, value in found["labels"].items())),
            ("worker", found.get("workerId")),
            ("created", age(found["createdAt"])),
            ("last used", age(found.get("lastUsedAt"))),
            ("error", f"{error['code']}: {error['message']}" if error else None),
            ("hint", error.get("hint")),
        )
    )
    if found["adapters"]:
        print()
        table(
            ("ADAPTER", "MODEL", "STATE", "LOADED IN", "MESSAGE"),
            (
                (
                    one["name"],
                    one["model"],
                    one["state"],
                    f"{one['seconds']:.2f} s" if one.get("seconds") is not None else "",
                    one.get("message"),
                )
                for one in found["adapters"]
            ),
            "",
        )
    if found["instances"]:
        print()
        table(
            ("VERSION", "REPLICA", "STATE", "RESTARTS", "GPUS", "MEMORY", "MESSAGE"),
            (
                (
                    one["revision"],
                    one["number"],
                    one["state"],
                    one["restarts"],
                    ",".join(one["gpus"]),
                    size(one.get("memoryBytes")),
                    one.get("message"),
                )
                for one in found["instances"]
            ),
            "",
        )
