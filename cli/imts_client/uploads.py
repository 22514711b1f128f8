"""A file on its way to the platform, read piece by piece whatever its size."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

Told = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all."""


@dataclass(frozen=True)
class Upload:
    path: Path
    told: Told | None = None


class Reading:
    """An open file that tells how far it was read."""

    def __init__(self, file: IO[bytes], told: Told | None) -> None:
        self._file = file
        self._told = told
        self._size = file.seek(0, 2)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        if self._told is not None:
            self._told(self._file.tell(), self._size)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
