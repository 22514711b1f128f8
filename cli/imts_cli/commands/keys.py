"""imts keys"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from imts_cli.commands.exits import UsageFault, command_group, note
from imts_cli.commands.output import age, table
from imts_cli.commands.platform import AsJson, fetch, fetch_list, print_json
from imts_client.calls import access as calls

app = command_group("API keys: create, list, revoke.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    role: Annotated[str, typer.Option(help="admin, member, viewer or inference.")] = "member",
    project: Annotated[str | None, typer.Option(help="The project that it opens.")] = None,
    expires: Annotated[str | None, typer.Option(help="30d, 12h, or a time such as 2030-01-31T12:00+00:00.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. It is shown this once: it goes to stdout alone, so that `$(imts keys create ci)` holds it."""
    key = fetch(calls.create_key(name, role, project, _expiry(expires) if expires else None))
    if as_json:
        print_json(key)
        return
    note(f"Key {key['id']} ({key['role']}, project {key['project'] or 'all'}); it is shown this once:")
    print(key["key"])


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys, newest first."""
    found = fetch_list(calls.keys(), None)
    if as_json:
        print_json(found)
        return
    table(
        ("ID", "NAME", "ROLE", "PROJECT", "KEY", "STATE", "LAST USED"),
        (
            (
                key["id"],
                key["name"],
                key["role"],
                key["project"] or "all",
                key["hint"] + "…",
                _state(key.get("revokedAt"), key.get("expiresAt")),
                age(key.get("lastUsedAt")) or "never",
            )
            for key in found["items"]
        ),
        "There are no keys.",
    )


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Revoke a key; it opens nothing from now on."""
    key = fetch(calls.revoke_key(key_id))
    if as_json:
        print_json(key)
    else:
        print(f"Key {key_id} is revoked.")


def _state(revoked_at: str | None, expires_at: str | None) -> str:
    if revoked_at:
        return "revoked"
    if not expires_at:
        return "valid"
    when = age(expires_at)
    return f"expires {when}" if when.startswith("in ") else f"expired {when}"


def _expiry(text: str) -> datetime:
    span = re.fullmatch(r"(\d{1,6})([dh])", text)
    try:
        if span:
            hours = int(span[1]) * (24 if span[2] == "d" else 1)
            return datetime.now(UTC) + timedelta(hours=hours)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageFault(f"--expires {text!r} is neither a span such as 30d nor a time.") from None
    return at if at.tzinfo else at.astimezone()
