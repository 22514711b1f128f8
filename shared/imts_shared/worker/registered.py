"""Where a registered model's files lie on this machine."""

import fcntl
import shutil
from pathlib import Path

from imts_shared.contracts.models import ModelInput
from imts_shared.storage import Storage
from imts_shared.worker import checkpoints


def files_of(storage: Storage, models: Path, model: ModelInput) -> Path:
    """On a disk they are used where they lie, out of a bucket they are fetched once into `models`, which services
    share. BadCheckpoint says what is not as it was registered."""
    prefix = (model.prefix or "").rstrip("/")
    own = models / "registry" / (model.sha256 or model.id)
    own.parent.mkdir(parents=True, exist_ok=True)
    here = storage.local_path(prefix)
    if here is not None and here.is_dir():
        checkpoints.check(here, own.with_name(f".{own.name}.seen"))
        return here
    if own.is_dir():
        return own
    with own.with_name(f".{own.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not own.is_dir():
            unfinished = own.with_name(f".{own.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            checkpoints.fetch(storage, prefix, unfinished)
            unfinished.rename(own)
    return own
