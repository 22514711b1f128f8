"""Processes of this machine: who they are, whether they still are who we think, and their end."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

RUN_VARIABLE = "IMTS_RUN_ID"
"""Every process that a supervisor starts carries its run's id, and so do their children."""

PROC = Path("/proc")


@dataclass(frozen=True)
class Record:
    """A pid alone proves nothing, for pids are used again; with its start time it names one process."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        return self.started != "" and start_time(self.pid) == self.started


def record(pid: int) -> Record:
    return Record(pid, start_time(pid))


def start_time(pid: int) -> str:
    """Empty when there is no such process, or only its zombie."""
    if sys.platform == "linux":
        fields = _stat(pid)
        return "" if not fields or fields[0] in "ZX" else fields[19]
    answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], check=False, capture_output=True, text=True)
    return answer.stdout.strip()


def _stat(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def of_run(run: str) -> list[Record]:
    """Every living process that carries the run's id, however deep below a supervisor that may be dead."""
    if sys.platform != "linux":
        return []
    marker = f"{RUN_VARIABLE}={run}".encode()
    found = []
    for folder in PROC.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            marked = marker in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marked and (started := start_time(int(folder.name))):
            found.append(Record(int(folder.name), started))
    return found


def end(records: list[Record], number: signal.Signals = signal.SIGKILL, within: float = 5) -> bool:
    """Sends the signal to those that are still the same processes and waits; true when all are gone."""
    for process in records:
        if process.alive:
            _send(process.pid, number)
    until = time.monotonic() + within
    while any(process.alive for process in records):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def memory_of_tree(pid: int) -> int:
    """Bytes of the process and all below it; what they share is divided among them where the kernel says so."""
    if sys.platform != "linux":
        answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=False, capture_output=True, text=True)
        return int(answer.stdout.strip() or 0) * 1024
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    total, waiting = 0, [pid]
    while waiting:
        current = waiting.pop()
        total += _memory(current)
        waiting += children.get(current, [])
    return total


def _memory(pid: int) -> int:
    for name, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            lines = (PROC / str(pid) / name).read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0
