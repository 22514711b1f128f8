"""The folder that holds a machine's state: where each thing lies in it, and whether it can be used."""

import errno
import fcntl
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from imts_cli.local import LocalError

LAYOUT_VERSION = 1
LEAST_FREE_BYTES = 500 * 2**20


@dataclass(frozen=True)
class Home:
    root: Path

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def admin_key(self) -> Path:
        return self.secrets / "admin-key"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def state(self) -> Path:
        return self.run / "supervisor.json"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def valkey(self) -> Path:
        return self.root / "valkey"

    @property
    def storage(self) -> Path:
        return self.root / "storage"

    @property
    def layout(self) -> Path:
        return self.root / "layout.json"

    def log(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    def prepare(self) -> None:
        """Makes the folders and refuses a home that is full, not ours to write, or written by a newer IMTS."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.secrets, self.logs, self.run, self.postgres, self.valkey, self.storage):
                folder.mkdir(mode=0o700, exist_ok=True)
            probe = self.run / "writable"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise unwritable(self.root, error) from error
        self.check_layout()
        if not self.layout.exists():
            write_whole(self.layout, json.dumps({"version": LAYOUT_VERSION}))
        free = shutil.disk_usage(self.root).free
        if free < LEAST_FREE_BYTES:
            raise LocalError(
                f"The disk that holds {self.root} has {free // 2**20} MB free and IMTS needs"
                f" {LEAST_FREE_BYTES // 2**20} MB: make room, or set IMTS_HOME to a folder on another disk."
            )

    def check_layout(self) -> None:
        if not self.layout.exists():
            return
        try:
            version = int(json.loads(self.layout.read_text())["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise LocalError(
                f"{self.layout} is damaged: restore {self.root} from a backup, or set IMTS_HOME to a new folder."
            ) from error
        if version > LAYOUT_VERSION:
            raise LocalError(
                f"{self.root} was written by a newer IMTS (layout {version}, this one knows {LAYOUT_VERSION}):"
                " run the newer one, or set IMTS_HOME to another folder."
            )

    def secret(self, name: str) -> str:
        """The secret of that name, made at its first use; others on the machine cannot read it."""
        path = self.secrets / name
        if not path.exists():
            write_whole(path, secrets.token_urlsafe(32), mode=0o600)
        value = path.read_text().strip()
        if not value:
            raise LocalError(f"{path} is empty: restore it from a backup of {self.root}.")
        return value

    def lock(self) -> IO[str] | None:
        """The right to be this home's supervisor, held as long as the file is open; None if another has it."""
        file = (self.run / "lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file


def home_from_environment() -> Home:
    return Home(Path(os.environ.get("IMTS_HOME") or ".imts").absolute())


def write_whole(path: Path, content: str, mode: int = 0o644) -> None:
    """Readers see the old content or the new, even if this process is killed on the way."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def unwritable(path: Path, error: OSError) -> LocalError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LocalError(f"The disk that holds {path} is full: make room, or set IMTS_HOME to another disk.")
    return LocalError(
        f"IMTS cannot write to {path} ({error.strerror or error}): set IMTS_HOME to a folder that you own."
    )
