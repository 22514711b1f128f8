"""Chaos, as long as you like.

    python -m tests.chaos.run --rounds 100 --seed 1

Ends with 0 when every job ended, none was lost or ran twice at once, no event is missing or doubled, and no dead
attempt wrote anything.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.judging import judge
from tests.chaos.platform import ChaosPlatform
from tests.chaos.rounds import Rounds


def chaos(folder: Path, rounds: int, seed: int) -> tuple[dict[str, object], list[str]]:
    platform = ChaosPlatform(folder)
    started = time.monotonic()
    try:
        platform.start()
        game = Rounds(platform, seed)
        story = game.run(rounds, lambda line: print(f"{time.monotonic() - started:6.1f} s  {line}", flush=True))
        game.wait_for_the_end(240)
        late = game.watching.wait(40)
        faults = judge(platform, story, game.watching)
        faults += [f"{job_id}: its watcher never came to the end" for job_id in late]
    finally:
        platform.stop()
    summary: dict[str, object] = {
        "rounds": rounds,
        "seed": seed,
        "jobs": len(story.jobs),
        "events": sum(len(seen) for seen in game.watching.seen.values()),
        "faults_injected": dict(sorted(Counter(story.faults).items())),
        "violations": len(faults),
        "seconds": round(time.monotonic() - started),
    }
    return summary, faults


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to keep logs; default: a temporary folder")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="imts-chaos-"))
    summary, faults = chaos(folder, arguments.rounds, arguments.seed)
    for fault in faults:
        print(fault)
    print(json.dumps(summary, indent=2))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
