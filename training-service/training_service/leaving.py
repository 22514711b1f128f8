"""Leaving a step that is being worked out. A large batch on a CPU takes longer than a stop may: after a moment's
patience the step is given up, and the run ends with the step before."""

import functools
import signal
import threading
import time
from typing import Any

from imts_shared.worker.engine import EngineJob

PATIENCE_SECONDS = 2.5
"""Most steps end within it, and then nothing is given up."""
AGAIN_SECONDS = 0.25
"""Between two steps there is nothing to leave; the next one is met."""

_within_a_step = False


class StepAbandoned(BaseException):
    """Raised between two operations of the step, where nobody's `except Exception` shall take it for an own failure."""


def leavable(training_step: Any) -> Any:
    @functools.wraps(training_step)
    def step(*args: Any, **options: Any) -> Any:
        global _within_a_step  # noqa: PLW0603
        _within_a_step = True
        try:
            return training_step(*args, **options)
        finally:
            _within_a_step = False

    return step


def upon_order(job: EngineJob) -> None:
    """Only for a process that trains alone: the others of a run would wait for it."""
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGUSR1, _abandon)
    threading.Thread(target=_interrupt, args=(job, threading.get_ident()), name="leaving", daemon=True).start()


def _abandon(_number: int, _frame: Any) -> None:
    """Once a step: raised at the step's very end it would leave the mark set, and the next signal would break into the
    saving that follows."""
    global _within_a_step  # noqa: PLW0603
    if _within_a_step:
        _within_a_step = False
        raise StepAbandoned


def _interrupt(job: EngineJob, trains: int) -> None:
    job.await_order()
    time.sleep(PATIENCE_SECONDS)
    while True:
        signal.pthread_kill(trains, signal.SIGUSR1)
        time.sleep(AGAIN_SECONDS)
