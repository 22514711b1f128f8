"""From whatever an engine raised to the outcome that a person reads."""

import errno
import traceback
from pathlib import Path

from imts_shared.contracts.internal import Outcome
from imts_shared.contracts.jobs import Reason
from imts_shared.storage import StorageFull
from imts_shared.worker import memory
from imts_shared.worker.engine import EngineFailure
from imts_shared.worker.lines import clean

OWN_FRAMES = 3

DISK_HINT = "Free space where the worker keeps its scratch files and where storage lies, then retry the job."


def failed(reason: Reason, message: str, hint: str | None = None) -> Outcome:
    return Outcome(
        status="failed", reason=reason, message=clean(message), hint=None if hint is None else clean(hint, 2_000)
    )


def out_of_disk(error: BaseException) -> bool:
    return isinstance(error, StorageFull) or (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    )


def outcome_of(error: BaseException, own_folder: Path) -> Outcome:
    if isinstance(error, EngineFailure):
        return failed(error.reason, error.message, error.hint)
    if isinstance(error, MemoryError):
        return failed(Reason.out_of_memory, "The engine ran out of memory.", memory.HINT)
    if out_of_disk(error):
        return failed(Reason.out_of_disk, f"No space left: {error}", DISK_HINT)
    return failed(Reason.engine_error, _useful_lines(error, own_folder), "The job's log has the whole traceback.")


def _useful_lines(error: BaseException, own_folder: Path) -> str:
    """The error and where in the engine's own code it came from; what libraries did below it is in the log."""
    head = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(own_folder)] or list(frames)
    places = [
        f"  at {Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line or ''}".rstrip(": ")
        for frame in own[: -OWN_FRAMES - 1 : -1]
    ]
    return "\n".join([head, *places])
