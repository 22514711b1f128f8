"""The GPUs of a machine, lent to one attempt or engine at a time."""

import fcntl
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from imts_shared.contracts.internal import Device

MIB = 2**20
LOOK_SECONDS = 1.0


def found(visible: str | None = None) -> list[Device]:
    """What NVIDIA's own tool sees. Asking torch would wake the driver in a process that is forked later.

    `visible`: CUDA_VISIBLE_DEVICES as the worker was started with it; it lends those and no others.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        told = subprocess.run(
            [tool, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    allowed = None if visible is None else [name.strip() for name in visible.split(",")]
    return [device for line in told.stdout.splitlines() if (device := _device(line, allowed)) is not None]


def _device(line: str, allowed: list[str] | None) -> Device | None:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 4 or not parts[0].isdigit():
        return None
    index, identity, name, told_memory = parts
    if allowed is not None and not any(one == index or (one and identity.startswith(one)) for one in allowed):
        return None
    memory = int(told_memory) * MIB if told_memory.isdigit() else None
    return Device(kind="cuda", index=int(index), name=name, memory_bytes=memory)


class Gpus:
    """Who lends a device holds a lock on its file, so that a job and a deployment, which know nothing of each other,
    never hold one device at once; the kernel lets go of the lock when the holder dies.

    The control plane sends no more work than there are devices, so that whoever asks is rarely kept waiting.
    """

    def __init__(self, devices: list[Device], locks: Path | None = None) -> None:
        """Without `locks` nobody else on this machine uses the devices."""
        self.devices = devices
        self._locks = locks
        self._held: dict[str, IO[str] | None] = {}
        self._changed = threading.Condition()

    @contextmanager
    def lent(self, asked: int | None) -> Iterator[list[str]]:
        """As many as asked for, by default one; none where the worker has none."""
        count = min(1 if asked is None else asked, len(self.devices))
        with self._changed:
            while (mine := self.taken(count)) is None:
                self._changed.wait(LOOK_SECONDS)
        try:
            yield mine
        finally:
            self.give_back(mine)

    def taken(self, count: int) -> list[str] | None:
        """As many as asked for, to be given back; None while fewer are free."""
        with self._changed:
            mine: dict[str, IO[str] | None] = {}
            for device in self.devices:
                if len(mine) == count:
                    break
                index = str(device.index)
                if index in self._held:
                    continue
                if self._locks is None:
                    mine[index] = None
                elif (lock := self._lock(index)) is not None:
                    mine[index] = lock
            if len(mine) < count:
                _let_go(mine)
                return None
            self._held |= mine
            return list(mine)

    def give_back(self, mine: list[str]) -> None:
        with self._changed:
            _let_go({index: self._held.pop(index) for index in mine})
            self._changed.notify_all()

    def free(self) -> int:
        """How many nobody holds now."""
        with self._changed:
            others = [str(device.index) for device in self.devices if str(device.index) not in self._held]
            if self._locks is None:
                return len(others)
            locks = {index: lock for index in others if (lock := self._lock(index)) is not None}
            _let_go(locks)
            return len(locks)

    def _lock(self, index: str) -> IO[str] | None:
        assert self._locks is not None
        self._locks.mkdir(parents=True, exist_ok=True)
        lock = (self._locks / f"gpu-{index}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        return lock


def _let_go(locks: Mapping[str, IO[str] | None]) -> None:
    for lock in locks.values():
        if lock is not None:
            lock.close()
