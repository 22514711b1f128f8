"""The GPUs of a worker, lent to one attempt at a time."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imts_shared.contracts.internal import Device

MIB = 2**20


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
    """The control plane sends no more work than there are devices, so that whoever asks is rarely kept waiting."""

    def __init__(self, devices: list[Device]) -> None:
        self.devices = devices
        self._free = [str(device.index) for device in devices]
        self._changed = threading.Condition()

    @contextmanager
    def lent(self, asked: int | None) -> Iterator[list[str]]:
        """As many as asked for, by default one; none where the worker has none."""
        count = min(1 if asked is None else asked, len(self.devices))
        with self._changed:
            self._changed.wait_for(lambda: len(self._free) >= count)
            mine, self._free = self._free[:count], self._free[count:]
        try:
            yield mine
        finally:
            with self._changed:
                self._free = sorted([*self._free, *mine], key=int)
                self._changed.notify_all()
