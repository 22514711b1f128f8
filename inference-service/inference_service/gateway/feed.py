"""How the snapshot comes, and where the last one is kept for a start without the control plane."""

import asyncio
import os
import random
import time
from pathlib import Path

from loguru import logger
from pydantic import ValidationError

from imts_shared.contracts.serving import Snapshot
from inference_service.gateway.control_plane import ControlPlane, Unanswered
from inference_service.gateway.directory import Directory

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 3.0
LEAST_BETWEEN = 0.05


class Feed:
    def __init__(self, directory: Directory, control_plane: ControlPlane, kept: Path) -> None:
        self._directory = directory
        self._control_plane = control_plane
        self._kept = kept
        self._heard: str | None = None
        self.heard_at: float | None = None
        self.problem: str | None = None

    async def start(self) -> None:
        """With what was kept, if anything: keys and names of then are better than none."""
        snapshot = await asyncio.to_thread(read, self._kept)
        if snapshot is not None:
            self._directory.apply(snapshot)

    async def follow(self) -> None:
        """Asks on for as long as the process lives. The first question names no version: what was kept on disk may be
        of another database that counts its versions alike."""
        pause = FIRST_PAUSE
        while True:
            asked_at = time.monotonic()
            try:
                snapshot = await self._control_plane.snapshot(self._heard)
            except Unanswered as error:
                self._say(str(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            self._say(None)
            self.heard_at = time.time()
            if snapshot is not None and snapshot.version != self._heard:
                self._heard = snapshot.version
                self._directory.apply(snapshot)
                await self._keep(snapshot)
            await asyncio.sleep(max(0.0, LEAST_BETWEEN - (time.monotonic() - asked_at)))

    def _say(self, problem: str | None) -> None:
        """Once for each change, not once for each try."""
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            logger.info("control plane heard")
        else:
            logger.warning("control plane not heard, going on with the last snapshot", problem=problem)

    async def _keep(self, snapshot: Snapshot) -> None:
        try:
            await asyncio.to_thread(write, self._kept, snapshot)
        except OSError as error:
            logger.warning("snapshot not kept", path=str(self._kept), problem=error.strerror)


def read(path: Path) -> Snapshot | None:
    try:
        return Snapshot.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        logger.warning("kept snapshot not usable", path=str(path), problem=type(error).__name__)
        return None


def write(path: Path, snapshot: Snapshot) -> None:
    """Whole or not at all, and readable by nobody else: it holds the hashes of all keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(snapshot.model_dump_json(by_alias=True).encode())
    part.replace(path)
