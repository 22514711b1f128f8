"""Starts one command that cannot outlive its supervisor.

On Linux the kernel is asked to send a signal when the parent dies, and this process then becomes the command. Elsewhere
it stays as a guard that holds the other end of a pipe: the pipe closes when the supervisor dies.

Run as a file, in a fresh process, because a new user namespace needs a process with one thread.
"""

import argparse
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
UNPRIVILEGED = 65534


def main() -> int:
    arguments = parsed()
    if arguments.unprivileged and needs_another_identity():
        take_another_identity(arguments.owns)
    if arguments.guard_pipe is not None:
        return guard(arguments.command, arguments.guard_pipe, arguments.death_signal)
    die_with(arguments.parent, arguments.death_signal)
    return become(arguments.command)


def become(command: list[str]) -> NoReturn:
    os.execv(command[0], command)  # noqa: S606


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, required=True)
    parser.add_argument(
        "--unprivileged", action="store_true", help="as a named user who is not root, as Postgres demands"
    )
    parser.add_argument("--owns", type=Path, help="a folder that that user must own")
    parser.add_argument("--guard-pipe", type=int, help="where the kernel cannot help: the pipe to watch")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def die_with(parent: int, death_signal: int) -> None:
    """Set after every change of identity, which would clear it; a parent that died before is noticed by its pid."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit(1)


def needs_another_identity() -> bool:
    """Postgres refuses root, and its initdb a uid that has no name."""
    if os.geteuid() == 0:
        return True
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return True
    return False


def take_another_identity(folder: Path | None) -> None:
    """Into a user namespace where we are somebody else while the files stay ours; else really to another uid."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    named = [user.pw_uid for user in pwd.getpwall() if user.pw_uid != 0]
    inner = UNPRIVILEGED if UNPRIVILEGED in named or not named else named[0]
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and libc.unshare(CLONE_NEWUSER) == 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{inner} {outer_uid} 1")
        Path("/proc/self/gid_map").write_text(f"{inner} {outer_gid} 1")
        return
    if outer_uid != 0:
        return
    if folder is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, inner, inner, follow_symlinks=False)
    os.setgroups([])
    os.setgid(inner)
    os.setuid(inner)


def guard(command: list[str], pipe: int, death_signal: int) -> int:
    child = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda received, _frame: child.send_signal(received))

    def watch() -> None:
        os.read(pipe, 1)
        child.send_signal(death_signal)

    threading.Thread(target=watch, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
