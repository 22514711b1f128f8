"""imts providers"""

from enum import Enum
from typing import Annotated, Any

import typer

from imts_cli.commands.exits import FAILED, UsageFault, command_group, note
from imts_cli.commands.figures import count
from imts_cli.commands.job_request import check_numbers, read_file
from imts_cli.commands.output import age, clean, pairs, table
from imts_cli.commands.platform import AsJson, fetch, fetch_list, print_json
from imts_cli.commands.provider_request import (
    MODELS_HELP,
    AllowInternal,
    Concurrency,
    Enabled,
    File,
    KeyEnv,
    KeyStdin,
    Models,
    PerMinute,
    TokensPerMinute,
    fetch_naming_options,
    key_from,
    limits_from,
    models_from,
    with_kept_limits,
)
from imts_client.calls import providers as calls

app = command_group("Providers: models of others that the gateway may ask, their prices and what takes their place.")

EXAMPLE = "imts providers add openai --url https://api.openai.com/v1 --model gpt-5-mini,in=0.25,out=2"

Named = Annotated[str, typer.Argument(metavar="PROVIDER", help="An id or a name.")]
InProject = Annotated[str | None, typer.Option("--project", help="Where several projects have one of this name.")]


class Kind(Enum):
    openai = "openai"
    anthropic = "anthropic"
    ollama = "ollama"


@app.command(
    help=f"""Add a provider. Its API key is asked for, or read from --key-env or --key-stdin, and stored encrypted.

For example: {EXAMPLE}

{MODELS_HELP}"""
)
def add(
    name: Annotated[str | None, typer.Argument(help="Such as openai or deepseek; the file may name it.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="How it is spoken to; openai unless given.")] = None,
    url: Annotated[str | None, typer.Option(help="Up to and with /v1 where it has one.")] = None,
    model: Models = None,
    file: File = None,
    key_env: KeyEnv = None,
    key_stdin: KeyStdin = False,
    requests_per_minute: PerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    concurrency: Concurrency = None,
    project: Annotated[str | None, typer.Option(help="Whose callers may use it.")] = None,
    allow_internal: AllowInternal = None,
    enabled: Enabled = None,
    as_json: AsJson = False,
) -> None:
    fields = _from(file, key_stdin)
    limits = limits_from(requests_per_minute, tokens_per_minute, concurrency)
    given: dict[str, Any] = {
        "name": name,
        "kind": kind.value if kind else None,
        "baseUrl": url,
        "models": models_from(model),
        "limits": with_kept_limits(fields, limits) if limits else None,
        "project": project,
        "allowInternal": allow_internal,
        "enabled": enabled,
    }
    fields |= {field: value for field, value in given.items() if value is not None}
    for field, option in (("name", "a name"), ("baseUrl", "--url"), ("models", "--model")):
        if not fields.get(field):
            raise UsageFault(f"Give {option}, such as: {EXAMPLE}")
    asks = fields.get("kind") != Kind.ollama.value and "apiKey" not in fields
    key = key_from(clean(fields["name"]), key_env, key_stdin, ask=asks)
    if key:
        fields["apiKey"] = key
    provider = fetch_naming_options(calls.create_fields(fields))
    if as_json:
        print_json(provider)
        return
    print(f"Provider {provider['name']} is added with {_models_text(provider['models'], 5)}.")
    _say_problem(provider)
    note(f"See whether it answers: imts providers check {provider['name']}")


@app.command("list")
def list_providers(
    project: Annotated[str | None, typer.Option(help="One project.")] = None, as_json: AsJson = False
) -> None:
    """List the providers."""
    found = fetch_list(calls.find(project), None)
    if as_json:
        print_json(found)
        return
    table(
        ("NAME", "KIND", "MODELS", "KEY", "PROJECT", "STATE", "ADDRESS"),
        (
            (
                one["name"],
                one["kind"],
                _models_text(one["models"], 3),
                "set" if one["hasApiKey"] else "none",
                one["project"] or "all",
                _state(one),
                one["baseUrl"],
            )
            for one in found["items"]
        ),
        "There are no providers. `imts providers add` makes one.",
    )
    for one in found["items"]:
        _say_problem(one)


@app.command()
def show(provider: Named, project: InProject = None, as_json: AsJson = False) -> None:
    """Show a provider and its models."""
    found = fetch(calls.get(provider, project))
    if as_json:
        print_json(found)
        return
    limits = found["limits"]
    pairs(
        (
            ("id", found["id"]),
            ("name", found["name"]),
            ("kind", found["kind"]),
            ("address", found["baseUrl"] + (" (internal allowed)" if found["allowInternal"] else "")),
            ("API key", "set" if found["hasApiKey"] else "none"),
            ("project", found["project"] or "all"),
            ("state", _state(found)),
            ("problem", found.get("problem")),
            ("requests a minute", count(limits.get("requestsPerMinute"))),
            ("tokens a minute", count(limits.get("tokensPerMinute"))),
            ("requests at once", count(limits.get("concurrency"))),
            ("added", age(found["createdAt"])),
            ("changed", age(found["updatedAt"])),
        )
    )
    print("\nPrices are for a million tokens.")
    _models_table(found["models"])


@app.command(
    help=f"""Change a provider; what is not named stays. --model replaces all the models that there were.

{MODELS_HELP}"""
)
def change(
    provider: Named,
    url: Annotated[str | None, typer.Option(help="Up to and with /v1 where it has one.")] = None,
    model: Models = None,
    file: File = None,
    key_env: KeyEnv = None,
    key_stdin: KeyStdin = False,
    ask_key: Annotated[bool, typer.Option("--ask-key", help="Ask for a new API key here.")] = False,
    no_key: Annotated[bool, typer.Option("--no-key", help="Take its API key away.")] = False,
    requests_per_minute: PerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    concurrency: Concurrency = None,
    allow_internal: AllowInternal = None,
    enabled: Enabled = None,
    project: InProject = None,
    as_json: AsJson = False,
) -> None:
    fields = _from(file, key_stdin)
    limits = limits_from(requests_per_minute, tokens_per_minute, concurrency)
    if limits:
        known = fields if "limits" in fields else fetch(calls.get(provider, project))
        fields["limits"] = with_kept_limits(known, limits)
    given = {
        "baseUrl": url,
        "models": models_from(model),
        "allowInternal": allow_internal,
        "enabled": enabled,
        "apiKey": key_from(clean(provider), key_env, key_stdin, ask=ask_key),
    }
    fields |= {field: value for field, value in given.items() if value is not None}
    if no_key:
        if fields.get("apiKey"):
            raise UsageFault("A key is given and taken away at once.")
        fields["apiKey"] = None
    if not fields:
        raise UsageFault("There is nothing to change: give an option, such as --disabled.")
    changed = fetch_naming_options(calls.change_fields(provider, fields, project))
    if as_json:
        print_json(changed)
        return
    print(f"Provider {changed['name']} is changed: {_state(changed)}, {_models_text(changed['models'], 5)}.")
    _say_problem(changed)


@app.command()
def remove(provider: Named, project: InProject = None, as_json: AsJson = False) -> None:
    """Remove a provider; its models are no longer answered from there."""
    answer = fetch(calls.delete(provider, project))
    if as_json:
        print_json(answer)
    else:
        print(f"Provider {provider} is removed.")


@app.command()
def check(provider: Named, project: InProject = None, as_json: AsJson = False) -> None:
    """Ask a provider, with its key, which models it has. Exit code 1 where it does not answer well."""
    told = fetch(calls.check(provider, project))
    if as_json:
        print_json(told)
    else:
        print(f"{'ok' if told['ok'] else 'failed'}: {clean(told['message'])}")
        if told.get("models"):
            print(f"It has {clean(', '.join(told['models']))}")
    if not told["ok"]:
        raise typer.Exit(FAILED)


def _from(file: str | None, key_stdin: bool) -> dict[str, Any]:
    if file == "-" and key_stdin:
        raise UsageFault("Stdin cannot be both the file and the key: name the key's variable by --key-env.")
    fields = read_file(file) if file else {}
    check_numbers(fields)
    return fields


def _state(provider: dict[str, Any]) -> str:
    if not provider["enabled"]:
        return "disabled"
    return "not used" if provider.get("problem") else "enabled"


def _say_problem(provider: dict[str, Any]) -> None:
    if provider.get("problem"):
        note(f"{provider['name']}: {clean(provider['problem'])}")


def _models_text(models: list[dict[str, Any]], most: int) -> str:
    names = [clean(one["name"]) for one in models]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _models_table(models: list[dict[str, Any]]) -> None:
    columns = ["MODEL", "THERE CALLED", "INPUT", "CACHED", "OUTPUT", "WEIGHT", "FALLBACKS"]
    rows = [
        [
            one["name"],
            one.get("upstreamName") or one["name"],
            f"{one['inputPrice']:g}",
            f"{one['cachedInputPrice'] if one.get('cachedInputPrice') is not None else one['inputPrice']:g}",
            f"{one['outputPrice']:g}",
            f"{one['weight']:g}",
            ", ".join(one["fallbacks"]),
        ]
        for one in models
    ]
    table(columns, rows, "It has no models.", numbers={"INPUT", "CACHED", "OUTPUT", "WEIGHT"})
