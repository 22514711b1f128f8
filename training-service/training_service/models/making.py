"""Makes a built-in model for who cannot: in a process of its own, for the frameworks take memory that never returns.

`python -m training_service.models.making MODELS NAME` is that process.
"""

import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

from training_service.models import builtin


class NotMade(Exception):
    """The message is the last line that the process said."""


class Workshop:
    """Who asks while one is being made is not answered by a second process; who asks after a failure tries again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._making: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}

    def asked(self, models: Path, name: str) -> bool:
        """True when it is made."""
        with self._lock:
            if builtin.is_made(models, name):
                self._making.pop(name, None)
                return True
            if name not in self._making:
                self._making[name] = _begun(models, name)
                return False
            process, said = self._making[name]
            if process.poll() is None:
                return False
            del self._making[name]
            said.seek(0)
            lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
            raise NotMade(lines[-1] if lines else f"its maker ended with code {process.returncode}")


def _begun(models: Path, name: str) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    said = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the process that writes it
    command = [sys.executable, "-m", "training_service.models.making", str(models), name]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said), said


if __name__ == "__main__":
    builtin.folder(Path(sys.argv[1]), sys.argv[2])
