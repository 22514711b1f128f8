"""The two processes of an attempt: the guard, and the engine's own, leader of a session that the guard watches."""

import ctypes
import gc
import importlib
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from time import sleep
from types import ModuleType
from typing import Any, NoReturn

import orjson

from imts_shared.contracts.internal import ClaimAnswer, Outcome
from imts_shared.contracts.jobs import Reason
from imts_shared.storage import Storage
from imts_shared.worker.engine import PROGRESS_SECONDS, EngineJob, Stopped
from imts_shared.worker.failures import failed, outcome_of
from imts_shared.worker.guard import Guard, own_session, wake_on_child_end
from imts_shared.worker.lines import line, without_nul
from imts_shared.worker.plan import ChildPlan, Pipe

LARGEST_RESULT = 4 * 2**20
_SET_PARENT_DEATH_SIGNAL = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def main(plan: ChildPlan, commands: Pipe, orders: Pipe, reports: Pipe, out: Pipe, err: Pipe) -> None:
    """Becomes the guard; the process that it forks off becomes the engine's."""
    own_session()
    child_ends = wake_on_child_end()
    guard = os.getpid()
    engine = os.fork()
    if engine == 0:
        signal.set_wakeup_fd(-1)
        os.close(child_ends)
        commands.close()
        die_with(guard)
        _work(plan, orders, reports, out, err)
    for pipe in (orders, reports, out, err):
        pipe.close()
    Guard(engine, commands.fileno(), child_ends, plan.pulse_seconds).watch()


def die_with(parent: int) -> None:
    """In a process just forked: it ends when its parent does."""
    if _libc is not None:
        _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _work(plan: ChildPlan, orders: Pipe, reports: Pipe, out: Pipe, err: Pipe) -> NoReturn:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    _own_surroundings(plan.scratch)
    sending = threading.Lock()

    def send(frame: bytes) -> None:
        with sending:
            reports.send_bytes(frame)

    send(b"B%d" % os.getpid())
    claim = ClaimAnswer.model_validate_json(plan.claim)
    job = EngineJob(claim, lambda: Storage(plan.storage_url, plan.storage_options), Path(plan.scratch) / "work", send)
    job.options, job.devices = plan.options, plan.devices
    threading.Thread(target=_listen, args=(orders.fileno(), job), daemon=True).start()
    threading.Thread(target=_flush, args=(job,), daemon=True).start()
    frame = _perform(plan.engine, job, send)
    sys.stdout.flush()
    sys.stderr.flush()
    send(frame)
    os._exit(0)  # what libraries registered for an orderly end can hang


def _own_surroundings(scratch: str) -> None:
    """The platform's settings, secrets among them, are not the engine's business."""
    for name in [name for name in os.environ if name.startswith("IMTS_")]:
        del os.environ[name]
    work = Path(scratch) / "work"
    temporary = Path(scratch) / "tmp"
    work.mkdir()
    temporary.mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    os.chdir(work)


def _listen(orders: int, job: EngineJob) -> None:
    while said := os.read(orders, 1):
        job.heed("pause" if said == b"P" else "stop")


def _flush(job: EngineJob) -> None:
    while True:
        sleep(PROGRESS_SECONDS)
        job.flush_progress(PROGRESS_SECONDS)


def _load(engine: str) -> tuple[Callable[[EngineJob], Any], ModuleType]:
    module_name, _, name = engine.partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, name), module


def _perform(engine: str, job: EngineJob, send: Callable[[bytes], None]) -> bytes:
    """The job boundary: whatever the engine raises becomes an outcome here, and only here."""
    own_folder = Path(os.sep)
    try:
        run, module = _load(engine)
        own_folder = Path(str(module.__file__)).parent
        outcome = _finished(run(job))
    except Stopped:
        outcome = Outcome(status="stopped")
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
        for text in traceback.format_exception(error):
            for one in text.rstrip("\n").split("\n"):
                send(b"L" + line("stderr", one))
        outcome = outcome_of(error, own_folder)
    job.flush_progress()
    return b"O" + without_nul(outcome.model_dump_json(by_alias=True, exclude_none=True).encode())


def _finished(result: Any) -> Outcome:
    encoded = orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    if len(encoded) > LARGEST_RESULT:
        return failed(
            Reason.engine_error,
            f"The engine's result has {len(encoded)} bytes; {LARGEST_RESULT} are allowed.",
            "Large results belong into an artifact.",
        )
    return Outcome(status="succeeded", result=orjson.loads(encoded))


def prepare() -> None:
    """In the process that children are forked from: ends with the worker only, and shares its memory well.

    A supervisor signals the worker's whole group; would this process heed SIGTERM, all children would die with it
    before they could save their work.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
