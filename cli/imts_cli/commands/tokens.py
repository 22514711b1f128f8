"""imts tokens"""

import sys
from typing import Annotated

import typer

from imts_cli.commands.exits import UsageFault, command_group, note
from imts_cli.commands.output import age, table
from imts_cli.commands.platform import AsJson, fetch, fetch_list, print_json
from imts_client.calls import access
from imts_client.calls import tokens as calls

app = command_group("Tokens that a project's jobs show to model hubs, trackers and reward endpoints.")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="huggingface, modelscope or wandb, or reward:NAME for a reward's header.")
]
InProject = Annotated[str | None, typer.Option("--project", help="The key's own project unless given.")]


@app.command("set")
def set_token(name: Name, project: InProject = None, as_json: AsJson = False) -> None:
    """Set a token. Its value is read from stdin, or asked for: as an argument, every process could see it."""
    value = _value(name)
    token = fetch(calls.set_token(_project(project), name, value))
    if as_json:
        print_json(token)
    else:
        print(f"Token {name} is set.")


@app.command("list")
def list_tokens(project: InProject = None, as_json: AsJson = False) -> None:
    """List the tokens; their values cannot be read back."""
    found = fetch_list(calls.tokens(_project(project)), None)
    if as_json:
        print_json(found)
        return
    table(
        ("NAME", "ENDS IN", "SET", "BY KEY"),
        ((one["name"], one.get("hint"), age(one["setAt"]), one["setBy"]) for one in found["items"]),
        "There are no tokens.",
    )
    for one in found["items"]:
        if one.get("problem"):
            note(one["problem"])


@app.command()
def delete(name: Name, project: InProject = None, as_json: AsJson = False) -> None:
    """Delete a token; jobs that start from now on do without it."""
    answer = fetch(calls.delete_token(_project(project), name))
    if as_json:
        print_json(answer)
    else:
        print(f"Token {name} is deleted.")


def _project(named: str | None) -> str:
    return named or fetch(access.who_am_i())["project"] or "default"


def _value(name: str) -> str:
    if sys.stdin.isatty():
        value: str = typer.prompt(f"Value of {name}", hide_input=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise UsageFault("No value came: type it when asked, or pipe it in (imts tokens set NAME < file).")
    return value
