"""imts datasets import"""

import difflib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imts_cli.commands.exits import FAILED, UsageFault, note
from imts_cli.commands.output import table
from imts_cli.commands.platform import AsJson, fetch, print_json
from imts_cli.commands.transfers import transfer_bar
from imts_client.calls import datasets as calls
from imts_client.errors import ApiProblem
from imts_client.uploads import Upload

if TYPE_CHECKING:
    from imts_cli.registries.entries import Entry

_NOT_ABOUT_ONE = frozenset({401, 403, 429})
"""Refusals that the next entry would meet too."""


@dataclass(frozen=True)
class _Outcome:
    entry: str
    dataset: dict[str, Any] | None = None
    problem: str | None = None
    elsewhere: bool = False


def import_registry(
    registry: Annotated[Path, typer.Argument(help="A dataset_info.json, or the folder that holds one.")],
    only: Annotated[list[str] | None, typer.Option(help="Only this entry; may be repeated.")] = None,
    project: Annotated[str | None, typer.Option(help="Only an admin key may name another project.")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload the local files of a LLaMA-Factory registry.

    Rows are rewritten into the platform's formats as the entry's columns, tags, formatting and ranking say. With
    --json: what was imported, and what was not and why.
    """
    from imts_cli.registries import entries

    file = entries.registry_file(registry)
    try:
        written = entries.read(file)
    except entries.RegistryFault as fault:
        raise UsageFault(str(fault)) from None
    chosen = _chosen(written, only or [], file)
    outcomes = list(_imported(chosen, file.parent, project))
    if as_json:
        print_json(_document(outcomes))
    else:
        _print(outcomes)
    if any(one.problem and not one.elsewhere for one in outcomes) or not any(one.dataset for one in outcomes):
        raise typer.Exit(FAILED)


def _chosen(written: dict[str, Any], only: list[str], file: Path) -> dict[str, Any]:
    for name in only:
        if name not in written:
            near = difflib.get_close_matches(name, written, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageFault(f"{file} has no entry {name!r}.{hint}")
    return {name: entry for name, entry in written.items() if not only or name in only}


def _imported(chosen: dict[str, Any], folder: Path, project: str | None) -> Iterator[_Outcome]:
    from imts_cli.registries import entries

    taken: dict[str, str] = {}
    for name, written in chosen.items():
        try:
            entry = entries.entry(name, written, folder)
            called = calls.default_name(Path(name.replace("/", "-") + ".jsonl"))
            if called in taken:
                raise entries.EntryFault(f"Its name would be {called!r}, as that of {taken[called]!r} is.")
            taken[called] = name
            yield _Outcome(name, _uploaded(entry, called, project))
        except entries.Elsewhere as fault:
            yield _Outcome(name, problem=str(fault), elsewhere=True)
        except entries.EntryFault as fault:
            yield _Outcome(name, problem=str(fault))
        except ApiProblem as problem:
            if problem.status >= 500 or problem.status in _NOT_ABOUT_ONE:
                raise
            yield _Outcome(name, problem=f"The platform refused it: {problem.detail}")


def _uploaded(entry: "Entry", called: str, project: str | None) -> dict[str, Any]:
    from imts_cli.registries import files
    from imts_cli.registries.entries import EntryFault

    with tempfile.TemporaryDirectory(prefix="imts-import-") as scratch:
        target = Path(scratch) / f"{called}.jsonl"
        try:
            files.write(entry, target)
        except OSError as error:
            raise EntryFault(f"Its rows cannot be written to {scratch}: {error.strerror}.") from None
        with transfer_bar(f"uploading {called}", "checking the rows") as told:
            found: dict[str, Any] = fetch(calls.add(Upload(target, told), called, entry.form, project))
    return found


def _document(outcomes: list[_Outcome]) -> dict[str, Any]:
    return {
        "imported": [{"entry": one.entry, "dataset": one.dataset} for one in outcomes if one.dataset],
        "notImported": [{"entry": one.entry, "reason": one.problem} for one in outcomes if one.problem],
    }


def _print(outcomes: list[_Outcome]) -> None:
    table(
        ("ENTRY", "DATA SET", "VERSION", "FORMAT", "ROWS", "BAD ROWS", "NOT IMPORTED"),
        (
            (one.entry, *(found.get(name) for name in _SHOWN), one.problem)
            for one in outcomes
            for found in [one.dataset or {}]
        ),
        "The registry has no entries.",
    )
    for one in outcomes:
        if one.dataset and one.dataset.get("badRows"):
            note(f"Rows of {one.dataset['name']} that are not right: imts datasets problems {one.dataset['id']}")


_SHOWN = ("name", "version", "format", "rows", "badRows")
