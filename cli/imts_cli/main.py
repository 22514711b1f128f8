"""The `imts` command."""

import errno
import os
import sys

import typer

from imts_cli.local import LocalError
from imts_cli.local.commands import register as register_local

LOCAL = ("up", "down", "status", "logs", "doctor")
"""They work without the API, so they do not wait for its client to load."""


def build(arguments: list[str]) -> typer.Typer:
    app = typer.Typer(
        name="imts",
        help="IMTS: fine-tune, evaluate and serve models on your own machines.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    register_local(app)
    if arguments[:1] and arguments[0] in LOCAL:
        return app
    from imts_cli.commands import register

    register(app)
    return app


def main() -> int:
    try:
        build(sys.argv[1:])()
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        print(f"{error.filename or 'A file'} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    return 0
