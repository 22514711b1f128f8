"""The commands that look after IMTS on this machine."""

import json
import sys
from typing import Annotated

import typer

from imts_cli.local import logs, up
from imts_cli.local.home import home_from_environment
from imts_cli.local.status import status

NOT_READY = 3


def say(words: str) -> None:
    print(words, flush=True)


def up_command(
    detached: Annotated[bool, typer.Option("-d", "--detach", help="Return when all is ready.")] = False,
) -> None:
    """Start IMTS on this machine and look after it until Ctrl-C."""
    home = home_from_environment()
    if detached:
        up.up_detached(home, say)
    else:
        up.up(home, say)


def down_command() -> None:
    """Stop IMTS on this machine; all data is kept."""
    up.down(home_from_environment(), say)


def status_command(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what runs. The exit code is 0 when all is ready and 3 when not."""
    found = status(home_from_environment())
    if as_json:
        print(json.dumps(found))
    elif found["url"] is None:
        print("IMTS is not running: start it with `imts up`.")
    else:
        print(f"{'service':<17}{'state':<12}{'pid':>8}{'port':>7}{'restarts':>10}{'memory':>10}")
        for one in found["services"]:
            memory = f"{one['memoryBytes'] / 2**20:.0f} MB"
            pid = one["pid"] or "-"
            print(f"{one['name']:<17}{one['state']:<12}{pid:>8}{one['port']:>7}{one['restarts']:>10}{memory:>10}")
        print(f"\nAPI {found['url']}   admin key {found['api_key_file']}")
    if not found["ready"]:
        raise typer.Exit(NOT_READY)


def logs_command(
    service: Annotated[str | None, typer.Argument(help="One service; all without it.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many lines of each.")] = 50,
) -> None:
    """Show what the services have logged."""
    chosen = logs.chosen(home_from_environment(), service)
    for line in logs.last_lines(chosen, lines):
        print(line)
    if follow:
        for line in logs.follow(chosen):
            print(line, flush=True)


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Look at everything IMTS needs, and say what is wrong and how to mend it."""
    from imts_cli.doctor import examine

    checks = examine(home_from_environment())
    if as_json:
        print(json.dumps({"checks": [check.as_json() for check in checks]}))
    else:
        for check in checks:
            print(check.as_line())
    if any(check.level == "fail" for check in checks):
        sys.exit(1)


def register(app: typer.Typer) -> None:
    app.command("up")(up_command)
    app.command("down")(down_command)
    app.command("status")(status_command)
    app.command("logs")(logs_command)
    app.command("doctor")(doctor_command)
