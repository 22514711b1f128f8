"""What the exit codes mean, the sentences on stderr, and where errors become both."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from imts_client.errors import ApiProblem, ImtsError

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
REFUSED = 4
HALTED = 5
INTERRUPTED = 130

EPILOG = (
    "Exit codes: 0 done; 1 the job failed; 2 wrong usage; 3 the platform cannot be reached; "
    "4 the platform refused; 5 the job was stopped or paused; 130 Ctrl-C."
)


class UsageFault(Exception):
    """What was typed, or a file that was named, cannot be used."""


@contextmanager
def insistent() -> Iterator[None]:
    """Ctrl-C is heard though it comes where Python swallows it: within an import's or the collector's callbacks."""
    again: list[threading.Timer] = []

    def interrupt(_number: int, _frame: Any) -> None:
        timer = threading.Timer(1, _thread.interrupt_main)
        timer.daemon = True
        timer.start()
        again.append(timer)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:  # as shells start what runs in the background
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for timer in again:
            timer.cancel()


def note(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def complain(error: ImtsError) -> None:
    note(f"Error: {error}")
    if not isinstance(error, ApiProblem):
        return
    if error.field and error.field not in error.detail:
        note(f"  field: {error.field}")
    if error.hint:
        note(f"  hint: {error.hint}")
    for other in error.errors[1:10]:
        note(f"  {other.get('field')}: {other.get('message')} {other.get('hint') or ''}".rstrip())


class ReportingGroup(TyperGroup):
    """A group of commands in which every error is a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageFault as fault:
            note(f"Error: {fault}")
            raise typer.Exit(USAGE) from None
        except ApiProblem as problem:
            complain(problem)
            raise typer.Exit(REFUSED if problem.status < 500 else UNREACHABLE) from None
        except ImtsError as error:
            complain(error)
            raise typer.Exit(UNREACHABLE) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def command_group(help_text: str, *, alone: bool = False) -> typer.Typer:
    """`alone`: the group is itself the command."""
    return typer.Typer(
        cls=ReportingGroup,
        help=help_text,
        epilog=EPILOG,
        no_args_is_help=not alone,
        invoke_without_command=alone,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
