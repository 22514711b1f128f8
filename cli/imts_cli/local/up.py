"""`up` and `down`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

from imts_cli.local import LocalError, state
from imts_cli.local.home import Home
from imts_cli.local.plan import make_plan
from imts_cli.local.ports import ports_from_environment
from imts_cli.local.running import end_all, last_words
from imts_cli.local.supervisor import Supervisor, stop

DETACHED_START_SECONDS = 120.0


def up(home: Home, say: Callable[[str], None]) -> None:
    """In the foreground, until a signal comes."""
    home.prepare()
    lock = home.lock()
    if lock is None:
        say(_already(home))
        return
    with lock:
        plan = make_plan(home, ports_from_environment())
        started = time.monotonic()
        Supervisor(home, plan, say).run(when_ready=lambda: say(welcome(home, time.monotonic() - started)))
        say("IMTS is down.")


def up_detached(home: Home, say: Callable[[str], None]) -> None:
    """Starts the foreground command in a session of its own, and waits with the user until it is ready."""
    home.prepare()
    lock = home.lock()
    if lock is None:
        say(_already(home))
        return
    lock.close()
    started = time.monotonic()
    before = state.read(home)
    log = home.log("supervisor")
    say("Starting IMTS.")
    with log.open("ab") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "imts_cli", "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "IMTS_HOME": str(home.root)},
            start_new_session=True,
        )
    while time.monotonic() - started < DETACHED_START_SECONDS:
        ended = supervisor.poll() is not None
        found = state.read(home)
        mine = found is not None and found.pid == supervisor.pid and found != before
        if found is not None and mine and found.state == "ready":
            say(welcome(home, time.monotonic() - started))
            return
        if ended:
            if found is not None and mine and found.error:
                raise LocalError(found.error)
            if supervisor.returncode == 0:
                say(_already(home))
                return
            raise LocalError(last_words(log))
        time.sleep(0.05)
    raise LocalError(f"IMTS is not ready in time; what happened is in {home.logs}.")


def down(home: Home, say: Callable[[str], None]) -> None:
    found = state.read(home)
    if found is None:
        say("IMTS is not running.")
        return
    if not found.supervisor.alive:
        left = found.leftovers()
        say("IMTS is not running." if not left else "The supervisor was gone; ending what it left.")
        end_all(left)
        return
    say("Stopping IMTS.")
    stop(home, found.supervisor)
    say("IMTS is down; all data is kept.")


def _already(home: Home) -> str:
    """The other may be on its way up or down still: said only when it is settled, or has been long about it."""
    until = time.monotonic() + DETACHED_START_SECONDS
    while time.monotonic() < until:
        found = state.read(home)
        if found is None or not found.supervisor.alive:
            lock = home.lock()
            if lock is not None:
                lock.close()
                raise LocalError("The other `imts up` in this home has just ended: run this again.")
        elif found.state == "ready":
            return f"IMTS is already up: {found.url}"
        time.sleep(0.1)
    return f"Another `imts up` works in {home.root}; `imts status` says how far it is."


def welcome(home: Home, seconds: float) -> str:
    found = state.read(home)
    assert found is not None
    gateway = next((service.url for service in found.services if service.name == "gateway"), None)
    return "\n".join(
        (
            f"IMTS is up after {seconds:.1f} s.",
            "",
            f"  API            {found.url}",
            f"  documentation  {found.url}/docs",
            *([f"  models         {gateway}/v1"] if gateway else []),
            f"  admin key      {home.admin_key}",
            "",
            "Next:  imts status                 what runs",
            "       imts datasets add FILE      bring data",
            "       imts train --help           fine-tune a model",
            "       imts deploy MODEL --watch   serve one",
            "       imts down                   stop; all data is kept",
        )
    )
