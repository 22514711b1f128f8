"""imts sweeps"""

from typing import Annotated, Any

import typer

from imts_cli.commands.exits import command_group
from imts_cli.commands.job_request import check_numbers, labels_from, read_file
from imts_cli.commands.output import age, pairs, table
from imts_cli.commands.platform import All, AsJson, Limit, fetch, fetch_list, print_json
from imts_client.calls import sweeps as calls

app = command_group("Sweeps: training jobs that differ in a few fields, and which of them is best.")

SweepId = Annotated[str, typer.Argument(metavar="ID", help="The sweep's id.")]


@app.command()
def submit(
    file: Annotated[str, typer.Option("-f", "--file", help="The sweep as YAML or JSON; - reads stdin.")],
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    project: Annotated[str | None, typer.Option(help="Only an admin key may name another project.")] = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100; higher goes first.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value for its jobs; may be repeated.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key never makes a second sweep.")] = None,
    as_json: AsJson = False,
) -> None:
    """Submit a sweep: base, method, parameters. Numbers such as 1e-4 need a point in YAML: 1.0e-4"""
    fields = read_file(file)
    check_numbers(fields)
    options = {"name": name, "project": project, "priority": priority}
    fields.update({field: value for field, value in options.items() if value is not None})
    if label:
        fields["labels"] = {**(fields.get("labels") or {}), **labels_from(label)}
    sweep = fetch(calls.submit_fields(fields, idempotency_key))
    if as_json:
        print_json(sweep)
    else:
        print(f"Sweep {sweep['id']} is {sweep['state']}; it has {sweep['counts']['trials']} trials.")


@app.command("list")
def list_sweeps(
    project: Annotated[str | None, typer.Option(help="One project.")] = None,
    limit: Limit = 50,
    everything: All = False,
    as_json: AsJson = False,
) -> None:
    """List sweeps, newest first."""
    found = fetch_list(calls.find(project), None if everything else limit)
    if as_json:
        print_json(found)
        return
    table(
        ("ID", "NAME", "METHOD", "STATE", "TRIALS", "CREATED"),
        (
            (one["id"], one.get("name"), one["method"], one["state"], _progress(one["counts"]), age(one["createdAt"]))
            for one in found["items"]
        ),
        "There are no sweeps.",
    )


@app.command()
def show(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Show a sweep and its trials, best first."""
    sweep = fetch(calls.get(sweep_id))
    if as_json:
        print_json(sweep)
        return
    error = sweep.get("error") or {}
    best = sweep.get("best") or {}
    pairs(
        (
            ("id", sweep["id"]),
            ("name", sweep.get("name")),
            ("project", sweep["project"]),
            ("state", sweep["state"]),
            ("method", sweep["method"]),
            ("metric", f"{sweep['metric']} ({sweep['goal']})"),
            ("trials", _progress(sweep["counts"])),
            ("created", age(sweep["createdAt"])),
            ("ended", age(sweep.get("endedAt"))),
            ("error", f"{error['code']}: {error['message']}" if error else None),
            ("hint", error.get("hint")),
            ("best", f"{best['value']:.6g} with {_values(best['parameters'])}" if best else None),
            ("best job", best.get("jobId")),
            ("best model", best.get("modelId")),
        )
    )
    print()
    table(
        ("RANK", "TRIAL", "STATE", "VALUE", "PARAMETERS", "JOB"),
        (
            (
                one.get("rank"),
                one["number"],
                one["state"],
                f"{one['value']:.6g}" if one.get("value") is not None else "",
                _values(one["parameters"]),
                one.get("jobId"),
            )
            for one in sweep["trials"]
        ),
        "No trial has begun.",
    )


@app.command()
def stop(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Stop a sweep and its jobs."""
    sweep = fetch(calls.stop(sweep_id))
    if as_json:
        print_json(sweep)
    else:
        print(f"Sweep {sweep['id']} is {sweep['state']}.")


@app.command()
def delete(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Delete a sweep that has ended; its jobs stay."""
    answer = fetch(calls.delete(sweep_id))
    if as_json:
        print_json(answer)
    else:
        print(f"Sweep {sweep_id} is deleted.")


def _progress(counts: dict[str, Any]) -> str:
    ended = [f"{counts[state]} {state}" for state in ("succeeded", "failed", "stopped", "pruned") if counts.get(state)]
    active = [f"{counts['active']} active"] if counts.get("active") else []
    return f"{counts['trials']}" + (f" ({', '.join([*active, *ended])})" if active or ended else "")


def _values(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())
