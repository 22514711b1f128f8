"""Idle memory of the whole platform: the proportional set size of every process, shared pages counted once.

python benchmarks/memory.py [--seconds 60]
"""

import argparse
import json
import subprocess
import time
from collections import defaultdict
from pathlib import Path

from platform_at_hand import ROOT, machine


def tree(root: int) -> list[int]:
    parents: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(stat.rpartition(")")[2].split()[1])].append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += parents[pid]
    return found


def pss(pid: int) -> int:
    """Bytes; a process that is gone takes none."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30, help="How long the platform is left alone before.")
    arguments = parser.parse_args()
    time.sleep(arguments.seconds)
    status = json.loads(
        subprocess.run([ROOT / "imts", "status", "--json"], capture_output=True, text=True, check=False).stdout
    )
    if not status["ready"]:
        raise SystemExit("The platform is not up: run ./imts up -d first.")
    by_service = {s["name"]: sum(map(pss, tree(s["pid"]))) for s in status["services"]}
    parent = int(Path(f"/proc/{status['services'][0]['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    by_service["supervisor"] = pss(parent)
    print(
        json.dumps(
            {
                "machine": machine(),
                "total_MB": round(sum(by_service.values()) / 1e6),
                "MB": {name: round(size / 1e6) for name, size in sorted(by_service.items())},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
