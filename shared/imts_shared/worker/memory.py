"""Whether the kernel ended processes because memory ran out, as this process's control group counts it."""

from pathlib import Path

HINT = "Ask for less at a time (a smaller batch, shorter rows), or run it where there is more memory."
_ROOT = Path("/sys/fs/cgroup")


def oom_kills() -> int:
    """0 where nothing counts."""
    for path in _counters():
        try:
            for line in path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        except (OSError, ValueError):
            continue
    return 0


def _counters() -> list[Path]:
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers == "":
            found += [_ROOT / path.lstrip("/") / "memory.events", _ROOT / "memory.events"]
        elif "memory" in controllers.split(","):
            found += [
                _ROOT / "memory" / path.lstrip("/") / "memory.oom_control",
                _ROOT / "memory" / "memory.oom_control",
            ]
    return found
