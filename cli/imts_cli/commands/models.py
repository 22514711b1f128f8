"""imts models"""

from pathlib import Path
from typing import Annotated, Any

import typer

from imts_cli.commands.exits import FAILED, UsageFault, command_group, note
from imts_cli.commands.output import age, clean, pairs, size, table
from imts_cli.commands.platform import All, AsJson, Limit, fetch, fetch_list, print_json, transport
from imts_cli.commands.transfers import transfer_bar
from imts_client.calls import models as calls

app = command_group("Models: what jobs made, where it came from, and its files.")

ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="An id, a name, or name@version.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What jobs call it.")],
    source: Annotated[str, typer.Argument(help="builtin:..., a hub id (org/name) or an absolute path.")],
    template: Annotated[str | None, typer.Option(help="The chat template of its jobs.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with it; needs an admin key.")
    ] = False,
    project: Annotated[str | None, typer.Option(help="Only an admin key may name another project.")] = None,
    as_json: AsJson = False,
) -> None:
    """Register a base model under a name."""
    _show(fetch(calls.add(name, source, template, trust_remote_code, project)), as_json)


@app.command("list")
def list_models(
    text: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="base, adapter, merged or gguf; may be repeated.")] = None,
    job: Annotated[str | None, typer.Option(help="Only what this job made.")] = None,
    project: Annotated[str | None, typer.Option(help="One project.")] = None,
    limit: Limit = 50,
    everything: All = False,
    as_json: AsJson = False,
) -> None:
    """List models, newest first."""
    found = fetch_list(calls.find(text, kind or [], job, project), None if everything else limit)
    if as_json:
        print_json(found)
        return
    _print_models(found["items"])


@app.command()
def show(model: ModelId, as_json: AsJson = False) -> None:
    """Show a model."""
    _show(fetch(calls.get(model)), as_json)


@app.command()
def lineage(model: ModelId, as_json: AsJson = False) -> None:
    """Show what a model came from, and what was made from it."""
    found = fetch(calls.lineage(model))
    if as_json:
        print_json(found)
        return
    job = found.get("job") or {}
    pairs(
        (
            ("model", _named(found["model"])),
            ("made by job", f"{job['id']} ({job['kind']}, {job['state']})" if job else None),
            *((f"with {name}", value) for name, value in (job.get("configuration") or {}).items()),
            ("data sets", ", ".join(_named(dataset) for dataset in found["datasets"])),
            ("came from", " <- ".join(_named(one) for one in found["ancestors"])),
            ("base model", found.get("baseModel")),
            ("led to", ", ".join(_named(one) for one in found["descendants"])),
        )
    )


@app.command()
def card(model: ModelId) -> None:
    """Print a model's card (Markdown)."""
    with transport().download(calls.card(model)) as (_, pieces):
        text = b"".join(pieces).decode(errors="replace")
    print("\n".join(clean(line) for line in text.splitlines()))


@app.command()
def files(model: ModelId, as_json: AsJson = False) -> None:
    """List a model's files."""
    found = fetch(calls.files(model))
    if as_json:
        print_json(found)
        return
    table(
        ("PATH", "SIZE", "SHA256"),
        ((file["path"], size(file["bytes"]), file["sha256"]) for file in found["items"]),
        "Its files are not kept here: a base model names only its source.",
    )


@app.command()
def verify(model: ModelId, as_json: AsJson = False) -> None:
    """Compare every stored file of a model with its manifest."""
    found = fetch(calls.verify(model))
    if as_json:
        print_json(found)
    elif found["ok"]:
        print(f"All {found['files']} files ({size(found['bytes'])}) are as they were stored.")
    else:
        for problem in found["problems"]:
            print(clean(problem))
    if not found["ok"]:
        raise typer.Exit(FAILED)


@app.command()
def download(
    model: ModelId,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The folder; its name unless given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Download a model's files into a folder. With --json: the model, when the files are there."""
    found = fetch(calls.get(model))
    folder = output or Path(f"{found['name']}-{found['version']}")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not force):
        raise UsageFault(f"{folder} is there already; name another with -o, or write into it with --force.")
    if not fetch(calls.files(found["id"]))["items"]:
        raise UsageFault(f"{found['name']} has no files here; its source is {found.get('source')}.")
    _save(found["id"], folder)
    if as_json:
        print_json(found)
    else:
        print(f"{folder}: {found['files']} files, {size(found['bytes'])}.")


@app.command()
def promote(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    step: Annotated[int, typer.Argument(min=0, help="The checkpoint's step; imts jobs checkpoints lists them.")],
    name: Annotated[str | None, typer.Option(help="The job's own name unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a checkpoint of a job a model, which keeps its files."""
    _show(fetch(calls.promote(job_id, step, name)), as_json)


@app.command()
def delete(model: ModelId, as_json: AsJson = False) -> None:
    """Delete a model that nothing needs any more."""
    answer = fetch(calls.delete(model))
    if as_json:
        print_json(answer)
    else:
        print(f"Model {model} is deleted.")


def _save(model: str, folder: Path) -> None:
    from imts_client.blocking.models import Models

    try:
        with transfer_bar("downloading", "") as told:
            Models(transport()).download(model, folder, told=told)
    except OSError as error:
        note(f"Error: {folder} cannot be written: {error.strerror}.")
        raise typer.Exit(FAILED) from None


def _named(one: dict[str, Any]) -> str:
    return f"{one['name']}@{one['version']}" if one.get("version") else str(one["name"])


def _print_models(found: list[dict[str, Any]]) -> None:
    table(
        ("ID", "NAME", "VERSION", "KIND", "BASE", "SIZE", "CREATED"),
        (
            (
                one["id"],
                one["name"],
                one["version"],
                one["kind"],
                one.get("source") or one.get("baseModel"),
                size(one["bytes"]),
                age(one["createdAt"]),
            )
            for one in found
        ),
        "There are no such models.",
    )


def _show(model: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(model)
        return
    pairs(
        (
            ("id", model["id"]),
            ("name", f"{model['name']} (version {model['version']})"),
            ("kind", model["kind"]),
            ("project", model["project"]),
            ("source", model.get("source")),
            ("base model", model.get("baseModel")),
            ("template", model.get("template")),
            ("trusts remote code", "yes" if model.get("trustRemoteCode") else None),
            ("job", model.get("jobId")),
            ("checkpoint", model.get("checkpointStep")),
            ("files", f"{model['files']} ({size(model['bytes'])})" if model["files"] else None),
            *((name, value) for name, value in model["metrics"].items()),
            *((f"details.{name}", value) for name, value in model["details"].items()),
            ("sha256", model.get("sha256")),
            ("created", age(model["createdAt"])),
        )
    )
