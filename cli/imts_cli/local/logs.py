"""Reading the services' logs."""

import time
from collections.abc import Iterator
from pathlib import Path

from imts_cli.local import LocalError
from imts_cli.local.home import Home
from imts_cli.local.running import tail

FOLLOW_SECONDS = 0.2
TAIL_BYTES = 64 * 1024


def chosen(home: Home, service: str | None) -> list[Path]:
    there = sorted(home.logs.glob("*.log")) if home.logs.is_dir() else []
    if service is None:
        if not there:
            raise LocalError(f"There are no logs in {home.logs} yet: start IMTS with `imts up`.")
        return there
    path = home.log(service)
    if path not in there:
        names = ", ".join(log.stem for log in there) or "none yet"
        raise LocalError(f"There is no log of `{service}`; there are: {names}.")
    return [path]


def last_lines(logs: list[Path], count: int) -> Iterator[str]:
    for log in logs:
        for line in tail(log, TAIL_BYTES).splitlines()[-count:]:
            yield _labelled(log, line, logs)


def follow(logs: list[Path]) -> Iterator[str]:
    """A file that has become shorter was rotated: its rest is read from the beginning."""
    positions = {log: log.stat().st_size for log in logs}
    while True:
        for log in logs:
            with log.open("rb") as file:
                if file.seek(0, 2) < positions[log]:
                    positions[log] = 0
                file.seek(positions[log])
                whole, newline, _ = file.read().rpartition(b"\n")
            if newline:
                positions[log] += len(whole) + 1
                for line in whole.decode(errors="replace").split("\n"):
                    yield _labelled(log, line, logs)
        time.sleep(FOLLOW_SECONDS)


def _labelled(log: Path, line: str, logs: list[Path]) -> str:
    return line if len(logs) == 1 else f"{log.stem:<16} {line}"
