"""imts deploy"""

import json
from typing import Annotated, Any

import typer

from imts_cli.commands.deployment_watch import watch as watch_deployment
from imts_cli.commands.exits import UsageFault
from imts_cli.commands.job_request import labels_from
from imts_cli.commands.output import clean
from imts_cli.commands.platform import AsJson, fetch, print_json, print_json_line
from imts_client.calls import deployments as calls

HELP = """Serve a model, for example: imts deploy my-bot --watch

MODEL is a registered model, builtin:..., a path or a hub id. An adapter goes into a running engine of its base where
there is one.
"""

EngineArgs = Annotated[
    list[str] | None,
    typer.Option("--engine-arg", metavar="KEY=VALUE", help="An option of the engine's own; may be repeated."),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", metavar="[NAME=]MODEL", help="A registered adapter to load; may be repeated."),
]
Gpu = Annotated[int | None, typer.Option("--gpu", min=0, help="GPUs of each replica; 0: the CPU.")]
IdleSeconds = Annotated[
    int | None, typer.Option("--idle-seconds", help="Put to sleep when unused for so long; the next request wakes it.")
]


def deploy(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="What is served.")],
    name: Annotated[str | None, typer.Option(help="What callers give as model; the model's own unless given.")] = None,
    replicas: Annotated[int | None, typer.Option(min=0, help="Engines that share the work.")] = None,
    engine: Annotated[str | None, typer.Option(help="vllm or llamacpp; by the model unless given.")] = None,
    engine_arg: EngineArgs = None,
    adapter: Adapters = None,
    gpu: Gpu = None,
    port: Annotated[int | None, typer.Option(help="Of the first replica; any free one unless given.")] = None,
    launcher: Annotated[str | None, typer.Option(help="process or kubernetes; the worker's own unless given.")] = None,
    start_timeout: Annotated[int | None, typer.Option(help="Seconds until it must be ready.")] = None,
    idle_seconds: IdleSeconds = None,
    drain_seconds: Annotated[int | None, typer.Option(help="What running requests get when it goes.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value; may be repeated.")] = None,
    project: Annotated[str | None, typer.Option(help="Only an admin key may name another project.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Watch it until it is ready or has failed.")] = False,
    as_json: AsJson = False,
) -> None:
    given: dict[str, Any] = {
        "model": model,
        "name": name,
        "replicas": replicas,
        "engine": engine,
        "engineArgs": engine_args_from(engine_arg) or None,
        "adapters": adapters_from(adapter) or None,
        "gpu": gpu,
        "port": port,
        "launcher": launcher,
        "startTimeoutSeconds": start_timeout,
        "idleSeconds": idle_seconds,
        "drainSeconds": drain_seconds,
        "labels": labels_from(label or []) or None,
        "project": project,
    }
    told = fetch(calls.create_fields({field: value for field, value in given.items() if value is not None}))
    tell(told, as_json, in_a_line=watch)
    if watch:
        raise typer.Exit(watch_deployment(told["id"], as_json))


def engine_args_from(given: list[str] | None) -> dict[str, Any]:
    """Numbers, true, null, lists and objects as JSON says; everything else is text."""
    found: dict[str, Any] = {}
    for item in given or []:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise UsageFault(f"--engine-arg {item!r} is not key=value, such as max_model_len=4096.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def adapters_from(given: list[str] | None) -> list[dict[str, str]]:
    found = []
    for item in given or []:
        name, separator, model = item.partition("=")
        if separator and not (name and model):
            raise UsageFault(f"--adapter {item!r} is neither a model nor name=model.")
        found.append({"model": model, "name": name} if separator else {"model": item})
    return found


def tell(told: dict[str, Any], as_json: bool, *, in_a_line: bool = False) -> None:
    if as_json:
        (print_json_line if in_a_line else print_json)(told)
        return
    why = f"; {clean(told['message']).rstrip('.')}" if told.get("message") else ""
    print(f"Deployment {told['name']} is {told['state']}{why}.")
