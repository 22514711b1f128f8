"""What `imts providers add` and `change` send: a file, over it the options; and where the key is read."""

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from imts_cli.commands.exits import UsageFault
from imts_cli.commands.figures import whole_number
from imts_cli.commands.pieces import Fields, number, several, split
from imts_cli.commands.platform import fetch
from imts_client.calls.call import Call
from imts_client.errors import ApiProblem

Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="MODEL", help="As below; may be repeated."),
]
MODELS_HELP = (
    "MODEL is NAME[=UPSTREAM][,in=3,out=15,...]: what callers name it and, where that differs, what the provider calls "
    "it. Behind commas: in=, cached= and out=, prices for a million tokens; weight=, its share among those of one "
    "name; fallback=, a model that answers when this one cannot (may be repeated)."
)
File = Annotated[str | None, typer.Option("-f", "--file", help="The provider as YAML or JSON; - reads stdin.")]
KeyEnv = Annotated[
    str | None, typer.Option("--key-env", metavar="NAME", help="The environment variable that holds its API key.")
]
KeyStdin = Annotated[bool, typer.Option("--key-stdin", help="Read its API key from stdin.")]
PerMinute = Annotated[str | None, typer.Option(metavar="N|none", help="Requests sent there in a minute at most.")]
TokensPerMinute = Annotated[str | None, typer.Option(metavar="N|none", help="Tokens in a minute at most.")]
Concurrency = Annotated[str | None, typer.Option(metavar="N|none", help="Requests at once at most.")]
AllowInternal = Annotated[
    bool | None,
    typer.Option(
        "--allow-internal/--no-allow-internal",
        help="An address of this machine or a private network; only an admin may say so.",
    ),
]
Enabled = Annotated[bool | None, typer.Option("--enabled/--disabled", help="Whether it is asked at all.")]

MODEL: Fields = {
    "in": ("inputPrice", number),
    "cached": ("cachedInputPrice", number),
    "out": ("outputPrice", number),
    "weight": ("weight", number),
    "fallback": ("fallbacks", several),
}


def models_from(given: list[str] | None) -> list[dict[str, Any]] | None:
    if not given:
        return None
    models = []
    for text in given:
        head, fields = split("--model", text, MODEL)
        name, separator, upstream = head.partition("=")
        if not name or (separator and not upstream):
            raise UsageFault(f"--model {text!r} names no model: write --model gpt-5-mini,in=0.25,out=2")
        models.append({"name": name} | ({"upstreamName": upstream} if upstream else {}) | fields)
    return models


def limits_from(requests: str | None, tokens: str | None, concurrency: str | None) -> dict[str, int | None]:
    """Those that are named; None lifts one."""
    given = (
        ("requestsPerMinute", "--requests-per-minute", requests),
        ("tokensPerMinute", "--tokens-per-minute", tokens),
        ("concurrency", "--concurrency", concurrency),
    )
    return {field: whole_number(option, text) for field, option, text in given if text is not None}


def key_from(name: str, env: str | None, stdin: bool, *, ask: bool) -> str | None:
    """Never from an argument: every process of the machine could read it there."""
    if env and stdin:
        raise UsageFault("Name one of --key-env and --key-stdin.")
    if env:
        key = os.environ.get(env, "")
        if not key.strip():
            raise UsageFault(f"--key-env {env}: there is no such environment variable, or it is empty.")
    elif stdin:
        key = sys.stdin.read()
        if not key.strip():
            raise UsageFault("--key-stdin: no key came.")
    elif ask and sys.stdin.isatty():
        key = typer.prompt(
            f"API key of {name} (Enter: none)", default="", hide_input=True, show_default=False, err=True
        )
    else:
        return None
    key = key.strip()
    if not all(" " <= letter <= "~" for letter in key):
        raise UsageFault("The API key holds a line break or a letter that is not ASCII: is it the right text?")
    return key or None


def with_kept_limits(known: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    return {**(known.get("limits") or {}), **changed}


def fetch_naming_options(call: Call[Any]) -> Any:
    """The platform names a field; who types commands gives an option."""
    try:
        return fetch(call)
    except ApiProblem as problem:
        if problem.field == "allowInternal":
            problem.field = "--allow-internal"
        if problem.hint:
            problem.hint = problem.hint.replace("allowInternal: true", "--allow-internal")
        raise
