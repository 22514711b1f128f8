"""imts datasets"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from imts_cli.commands import imports
from imts_cli.commands.exits import FAILED, UsageFault, command_group, note
from imts_cli.commands.output import age, clean, pairs, size, table
from imts_cli.commands.platform import All, AsJson, Limit, fetch, fetch_list, print_json, transport
from imts_cli.commands.transfers import transfer_bar
from imts_client.calls import datasets as calls
from imts_client.uploads import Upload

app = command_group("Data sets: add, look at, download.")

FIRST_PROBLEMS = 10

DatasetId = Annotated[str, typer.Argument(metavar="DATASET", help="An id, a name, or name@version.")]


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="JSON, JSONL, CSV or Parquet, of any size.")],
    name: Annotated[str | None, typer.Option(help="The file's own name unless given.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="Take it for this format.")] = None,
    project: Annotated[str | None, typer.Option(help="Only an admin key may name another project.")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file. Every row is checked; rows that are not right are listed by line."""
    _check_readable(file)
    with transfer_bar("uploading", "checking the rows") as told:
        call = calls.add(Upload(file, told), name or calls.default_name(file), form, project)
        dataset = fetch(call)
    if as_json:
        print_json(dataset)
        return
    _describe(dataset)
    if dataset.get("badRows"):
        found = fetch_list(calls.problems(dataset["id"]), FIRST_PROBLEMS)
        _print_problems(found["items"])
        if dataset["badRows"] > len(found["items"]):
            note(f"More of them: imts datasets problems {dataset['id']}")


app.command("import")(imports.import_registry)


@app.command("list")
def list_datasets(
    text: Annotated[str | None, typer.Option(help="Words in the name.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="Only this format.")] = None,
    all_versions: Annotated[bool, typer.Option("--all-versions", help="Not only the newest.")] = False,
    limit: Limit = 50,
    everything: All = False,
    as_json: AsJson = False,
) -> None:
    """List data sets, newest first."""
    found = fetch_list(calls.find(text, form, all_versions), None if everything else limit)
    _print_datasets(found, as_json)


@app.command()
def versions(dataset: DatasetId, as_json: AsJson = False) -> None:
    """List a data set's versions."""
    _print_datasets(fetch_list(calls.versions(dataset), None), as_json)


@app.command()
def show(dataset: DatasetId, as_json: AsJson = False) -> None:
    """Show a data set."""
    found = fetch(calls.get(dataset))
    if as_json:
        print_json(found)
    else:
        _describe(found)


@app.command()
def problems(dataset: DatasetId, limit: Limit = 100, everything: All = False, as_json: AsJson = False) -> None:
    """List the rows that are not right, by line."""
    found = fetch_list(calls.problems(dataset), None if everything else limit)
    if as_json:
        print_json(found)
    elif found["items"]:
        _print_problems(found["items"])
    else:
        print("Every row is right.")


@app.command()
def preview(
    dataset: DatasetId,
    offset: Annotated[int, typer.Option(min=0, help="The first row shown, from 0.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Print some rows."""
    found = fetch(calls.preview(dataset, offset, limit))
    if as_json:
        print_json(found)
        return
    for row in found["items"]:
        print(json.dumps(row, ensure_ascii=False))


@app.command()
def download(
    dataset: DatasetId,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to; - is stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Download a data set's file as it was added. With --json: the data set, when the file is there."""
    found = fetch(calls.get(dataset))
    if output == Path("-"):
        if as_json:
            raise UsageFault("--json and -o - would both write to stdout.")
        with transport().download(calls.download(dataset)) as (_, pieces):
            for piece in pieces:
                sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    target = output or Path(Path(found["fileName"]).name)
    if target.is_dir():
        target /= Path(found["fileName"]).name
    if target.exists() and not force:
        raise UsageFault(f"{target} is there already; name another with -o, or write over it with --force.")
    _save(found["id"], target)
    if as_json:
        print_json(found)
    else:
        print(f"{target}: {size(found['bytes'])}.")


@app.command()
def delete(dataset: DatasetId, as_json: AsJson = False) -> None:
    """Delete a data set that no job needs any more."""
    answer = fetch(calls.delete(dataset))
    if as_json:
        print_json(answer)
    else:
        print(f"Data set {dataset} is deleted.")


def _save(dataset: str, target: Path) -> None:
    from imts_client.blocking.datasets import Datasets

    try:
        with transfer_bar("downloading", "") as told:
            Datasets(transport()).download(dataset, target, told=told)
    except OSError as error:
        note(f"Error: {target} cannot be written: {error.strerror}.")
        raise typer.Exit(FAILED) from None


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise UsageFault(f"{file} cannot be read: {error.strerror}.") from None


def _print_datasets(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    table(
        ("ID", "NAME", "VERSION", "FORMAT", "ROWS", "BAD ROWS", "SIZE", "STATE", "CREATED"),
        (
            (
                one["id"],
                one["name"],
                one["version"],
                one.get("format"),
                one.get("rows"),
                one.get("badRows"),
                size(one["bytes"]),
                one["state"],
                age(one["createdAt"]),
            )
            for one in found["items"]
        ),
        "There are no such data sets.",
    )


def _describe(dataset: dict[str, Any]) -> None:
    pairs(
        (
            ("id", dataset["id"]),
            ("name", f"{dataset['name']} (version {dataset['version']})"),
            ("state", dataset["state"]),
            ("format", dataset.get("format")),
            (
                "file",
                f"{dataset['fileName']} ({dataset.get('fileType') or 'unknown type'}, {size(dataset['bytes'])})",
            ),
            ("rows", dataset.get("rows")),
            ("bad rows", dataset.get("badRows")),
            ("columns", ", ".join(dataset["columns"])),
            ("sha256", dataset["sha256"]),
            ("created", age(dataset["createdAt"])),
        )
    )


def _print_problems(found: list[dict[str, Any]]) -> None:
    for problem in found:
        print(f"line {problem['line']}: {clean(problem['message'])} ({clean(problem['code'])})")
