"""`python -m control_plane api | watcher | migrate | create-admin-key --file PATH`."""

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from imts_shared.settings import SettingsFileError

FOREIGN_DATABASE = 3
"""Exit code of `migrate` when the database is newer than this program."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="control_plane", description="The control plane of IMTS.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("api", help="serve the REST API")
    commands.add_parser("watcher", help="send queued work, end silent runs, deliver webhooks, prune")
    commands.add_parser("migrate", help="bring the database to this program's schema")
    key = commands.add_parser("create-admin-key", help="make the first admin key, unless the file holds a good one")
    key.add_argument("--file", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        return _run(arguments)
    except (ValidationError, SettingsFileError) as error:
        print(f"The settings are not right: {error}", file=sys.stderr)  # noqa: T201
        return 2


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "api":
        from control_plane.api.serve import serve

        serve()
        return 0
    if arguments.command == "watcher":
        from control_plane.watcher.main import watch

        watch()
        return 0
    if arguments.command == "migrate":
        from control_plane.migrate import migrate

        return migrate()
    from control_plane.access.first_key import create_admin_key

    return create_admin_key(arguments.file)


if __name__ == "__main__":
    sys.exit(main())
