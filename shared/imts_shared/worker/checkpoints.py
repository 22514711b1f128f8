"""Checkpoints in storage: a folder's files, and last a manifest that makes them a checkpoint."""

import hashlib
import os
from pathlib import Path

import orjson

from imts_shared.storage import Storage

MANIFEST = "manifest.json"


class BadCheckpoint(Exception):
    """What lies in storage is not the checkpoint that was stored."""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def store(storage: Storage, folder: Path, prefix: str) -> tuple[int, int]:
    """Bytes and number of files stored."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
        storage.put_file(f"{prefix}/{name}", path)
    storage.put_bytes(f"{prefix}/{MANIFEST}", orjson.dumps({"files": files}))
    return sum(int(str(f["bytes"])) for f in files.values()), len(files)


def fetch(storage: Storage, prefix: str, folder: Path) -> None:
    try:
        files = orjson.loads(storage.get_bytes(f"{prefix}/{MANIFEST}"))["files"]
    except FileNotFoundError:
        raise BadCheckpoint(f"{prefix} has no manifest") from None
    for name, expected in files.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise BadCheckpoint(f"{prefix} names a file outside itself: {name}")
        try:
            storage.download(f"{prefix}/{name}", target)
        except FileNotFoundError:
            raise BadCheckpoint(f"{prefix} lacks {name}") from None
        if _digest(target) != expected["sha256"]:
            raise BadCheckpoint(f"{prefix}/{name} has changed since it was stored")


def check(folder: Path, seen: Path) -> None:
    """Whether the files in a folder are those of its manifest. What was read once is read again only when its size or
    its time has changed; `seen` is where that is kept."""
    try:
        files = orjson.loads((folder / MANIFEST).read_bytes())["files"]
    except FileNotFoundError:
        raise BadCheckpoint(f"{folder.name} has no manifest") from None
    now = {}
    for name in files:
        path = folder / name
        if not path.is_file():
            raise BadCheckpoint(f"{name} is missing")
        now[name] = [path.stat().st_size, path.stat().st_mtime_ns]
    before = orjson.loads(seen.read_bytes()) if seen.is_file() else {}
    for name, expected in files.items():
        if before.get(name) != now[name] and _digest(folder / name) != expected["sha256"]:
            raise BadCheckpoint(f"{name} has changed since it was stored")
    if now != before:
        unfinished = seen.with_name(f"{seen.name}.{os.getpid()}")
        unfinished.write_bytes(orjson.dumps(now))
        unfinished.replace(seen)
