"""Run in the engine's environment, which has the hub's own client: fetches a model, says how much has come.

Takes JSON on the standard input; the last line of the standard output is JSON: {"folder"} or {"fault", "why"}.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

LOOK_SECONDS = 2.0


def main() -> None:
    asked = json.load(sys.stdin)
    if asked["mirror"]:
        os.environ["HF_ENDPOINT"] = asked["mirror"]
    os.environ.pop("HF_HUB_OFFLINE", None)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    from huggingface_hub import errors

    threading.Thread(target=tell, args=(Path(asked["cache"]),), daemon=True).start()
    try:
        answer = {"folder": fetch(asked)}
    except errors.GatedRepoError:
        answer = {"fault": "gated"}
    except errors.RepositoryNotFoundError:
        answer = {"fault": "unknown"}
    except errors.RevisionNotFoundError:
        answer = {"fault": "revision"}
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        full = getattr(error, "errno", None) is not None
        answer = {"fault": "disk" if full else "unreached", "why": str(error)[:300]}
    sys.stdout.write(json.dumps(answer) + "\n")


def fetch(asked: dict[str, Any]) -> str:
    from huggingface_hub import snapshot_download

    folder: str = snapshot_download(
        repo_id=asked["repository"],
        revision=asked["revision"],
        cache_dir=asked["cache"],
        allow_patterns=asked["patterns"],
        local_files_only=asked["offline"],
        token=asked["token"] or False,
        etag_timeout=10,
    )
    return folder


def tell(cache: Path) -> None:
    before, told = size(cache), 0
    waiting = threading.Event()
    while not waiting.wait(LOOK_SECONDS):
        come = size(cache) - before
        if come - told > 2**20:
            sys.stderr.write(f"{come / 1e6:.0f} MB have come\n")
            sys.stderr.flush()
            told = come


def size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
        except OSError:
            continue
    return total


if __name__ == "__main__":
    main()
