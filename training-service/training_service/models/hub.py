"""Models from a hub: downloaded once into a cache that all jobs of this machine share."""

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imts_shared.worker.engine import BadConfig, EngineFailure, EngineJob, Stopped

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(@[\w./-]{1,100})?$")
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "LICENSE*", "README.md"]
"""No pickles. Code (*.py) only where an admin has allowed it for that model."""
LOOK_SECONDS = 2.0


def fetch(job: EngineJob, named: str, say: Callable[[str], None], *, code: bool = False) -> Path:
    if not HUB_ID.fullmatch(named):
        raise BadConfig(
            f"{named!r} names no model.",
            "Name builtin:..., a registered model, a path, or a hub id such as Qwen/Qwen3-0.6B.",
        )
    repository, _, revision = named.partition("@")
    cache = Path(job.options["models"]) / "hub"
    wanted = [*WANTED, "*.py"] if code else WANTED
    if job.options.get("hub") == "modelscope":
        return _modelscope(job, repository, revision or None, cache / "modelscope", wanted, say)
    return _hugging_face(job, repository, revision or None, cache / "huggingface", wanted, say)


def _hugging_face(
    job: EngineJob, repository: str, revision: str | None, cache: Path, wanted: list[str], say: Callable[[str], None]
) -> Path:
    mirror = job.options.get("hubMirror")
    if mirror:
        os.environ["HF_ENDPOINT"] = mirror
    from huggingface_hub import constants, errors, snapshot_download

    if mirror:
        constants.ENDPOINT = mirror.rstrip("/")
        constants.HUGGINGFACE_CO_URL_TEMPLATE = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    common: dict[str, Any] = {
        "repo_id": repository,
        "revision": revision,
        "cache_dir": cache,
        "allow_patterns": wanted,
    }
    offline = bool(job.options.get("hubOffline"))
    try:
        if offline:
            return Path(snapshot_download(**common, local_files_only=True))
        with _Progress(job, cache, repository, say):
            return Path(
                snapshot_download(
                    **common, token=job.secrets.get("huggingface") or False, endpoint=mirror or None, etag_timeout=10
                )
            )
    except errors.GatedRepoError as error:
        raise BadConfig(
            f"{repository} is gated: it needs a token of somebody who was granted access.",
            "Ask for access on its page, then store the token: PUT /api/projects/{project}/tokens/huggingface.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BadConfig(
            f"The hub has no model {repository!r}, or it is private.",
            "Check the id. A private one needs a token: PUT /api/projects/{project}/tokens/huggingface.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise BadConfig(f"{repository} has no revision {revision!r}.", "Leave `@...` out for the newest.") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _unreached(repository, offline) from error
    except (OSError, errors.HfHubHTTPError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise _unreached(repository, offline) from error


def _modelscope(
    job: EngineJob, repository: str, revision: str | None, cache: Path, wanted: list[str], say: Callable[[str], None]
) -> Path:
    from modelscope import snapshot_download

    offline = bool(job.options.get("hubOffline"))
    try:
        with _Progress(job, cache, repository, say):
            return Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    cache_dir=str(cache),
                    allow_patterns=wanted,
                    local_files_only=offline,
                    token=job.secrets.get("modelscope"),
                )
            )
    except (OSError, ValueError) as error:
        if "not found" in str(error).lower() or "404" in str(error):
            raise BadConfig(f"ModelScope has no model {repository!r}, or it is private.", "Check the id.") from error
        raise _unreached(repository, offline) from error


def _unreached(repository: str, offline: bool) -> EngineFailure:
    why = "this platform is set to stay offline" if offline else "the hub is not reached from here"
    return BadConfig(
        f"{repository} is not on this machine, and {why}.",
        "Name a model that is here (builtin:smollm2-135m, a registered one, a path),"
        " or let the worker reach the hub or a mirror (IMTS_HUB_MIRROR).",
    )


class _Progress:
    """Says every few seconds how much has come, and gives up when the job is told to stop."""

    def __init__(self, job: EngineJob, cache: Path, repository: str, say: Callable[[str], None]) -> None:
        self._job, self._cache, self._repository, self._say = job, cache, repository, say
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._before = self._size()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._job.order() is not None:
            raise Stopped(self._job.order())

    def _look(self) -> None:
        began, told = time.monotonic(), 0
        while not self._done.wait(LOOK_SECONDS):
            come = self._size() - self._before
            if come - told > 2**20:
                speed = come / (time.monotonic() - began)
                self._say(f"Downloading {self._repository}: {come / 1e6:.0f} MB, {speed / 1e6:.1f} MB/s.")
                told = come

    def _size(self) -> int:
        total = 0
        for path in self._cache.rglob("*"):
            try:
                total += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
            except OSError:
                continue
        return total
