"""Scratch folders: one a worker process, gone with it, or swept up by the next one."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

LOCK = ".alive"


class Scratch:
    """The lock ends with the process however it ends, so a folder whose lock is free belongs to nobody."""

    def __init__(self, home: Path, worker_id: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        self.folder = home / worker_id
        self.folder.mkdir()
        self._lock = (self.folder / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _sweep(home: Path) -> None:
    for folder in home.iterdir():
        try:
            lock: IO[str] = (folder / LOCK).open("r+")
        except OSError:
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat()):
                shutil.rmtree(folder, ignore_errors=True)
