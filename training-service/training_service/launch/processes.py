"""Ranks on this machine: forked from the attempt's process, which becomes rank 0.

They are forked first of all, before this process has opened a storage, a GPU or a thread pool, none of which outlives
a fork, and wait until rank 0 has prepared model and data. Rank 0 trains in a thread, so that the main thread can end
the run when a rank dies, wherever in a collective operation rank 0 is waiting for it.
"""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import monotonic, sleep
from typing import Any, NoReturn

from imts_shared.contracts.internal import Outcome
from imts_shared.contracts.jobs import Reason
from imts_shared.worker.child import die_with
from imts_shared.worker.engine import EngineFailure, EngineJob
from training_service.failures import peer_lost
from training_service.launch.falls import SETTLE_SECONDS, Fall, told

HOST = "127.0.0.1"
TICK_SECONDS = 0.1
END_SECONDS = 10.0
LINES_KEPT = 20
Meet = Callable[[dict[str, Any]], None]
"""Called by rank 0 with what it gives LLaMA-Factory: the others get the same, and all are ranks from then on."""
Assist = Callable[[EngineJob, dict[str, Any]], None]

_fork = get_context("fork")
_SIGNALLED = {-number for number in signal.Signals}


@dataclass
class Helper:
    """A rank other than 0, as rank 0 sees it."""

    number: int
    process: Any
    plan: "Connection[Any, Any]"
    report: "Connection[Any, Any]"
    relay: threading.Thread
    lines: deque[str]
    fall: Fall | None = None


def run(
    job: EngineJob, count: int, lead: Callable[[EngineJob, Meet], dict[str, Any]], assist: Assist
) -> dict[str, Any]:
    helpers = [_start(job, number, assist) for number in range(1, count)]
    well = False
    try:
        result = _followed(helpers, lambda: lead(job, lambda arguments: _meet(job, helpers, arguments)))
        well = True
        return result
    finally:
        _end(helpers, well=well)


def _start(job: EngineJob, number: int, assist: Assist) -> Helper:
    planned, plan = _fork.Pipe(duplex=False)
    report, reports = _fork.Pipe(duplex=False)
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = _fork.Process(
        target=_be, args=(os.getpid(), job, assist, (planned, plan), reports, (reading, writing)), daemon=False
    )
    process.start()
    planned.close()
    reports.close()
    os.close(writing)
    lines: deque[str] = deque(maxlen=LINES_KEPT)
    relay = threading.Thread(target=_relay, args=(number, reading, lines), daemon=True)
    relay.start()
    return Helper(number, process, plan, report, relay, lines)


def _relay(number: int, reading: int, lines: deque[str]) -> None:
    with os.fdopen(reading, encoding="utf-8", errors="replace", newline="\n") as output:
        for line in output:
            text = line.rstrip().rpartition("\r")[2]
            if text:
                lines.append(text)
                sys.stderr.write(f"[rank {number}] {text}\n")


def _meet(job: EngineJob, helpers: list[Helper], arguments: dict[str, Any]) -> None:
    from torch.distributed import TCPStore

    from training_service.launch import ranks

    count = len(helpers) + 1
    store = TCPStore(HOST, 0, count, is_master=True, wait_for_workers=False, timeout=ranks.PATIENCE)
    _kept.append(store)
    arguments.setdefault("ddp_timeout", int(ranks.PATIENCE.total_seconds()))
    interface = ranks.interface_of(HOST)
    for number in range(count - 1, -1, -1):
        rank = ranks.Rank(number, count, HOST, store.port, number, count, count, interface, store_is_served=True)
        if number:
            helpers[number - 1].plan.send((rank, arguments))
        else:
            ranks.join(rank, on_gpu=bool(job.devices))


_kept: list[Any] = []
"""The store that the ranks meet at lives as long as this process."""


def _be(
    parent: int,
    job: EngineJob,
    assist: Assist,
    plan: tuple["Connection[Any, Any]", "Connection[Any, Any]"],
    reports: "Connection[Any, Any]",
    output: tuple[int, int],
) -> NoReturn:
    """What a forked rank does, to its end."""
    die_with(parent)
    os.dup2(output[1], 1)
    os.dup2(output[1], 2)
    for number in output:
        os.close(number)
    plan[1].close()
    try:
        rank, arguments = plan[0].recv()
    except EOFError:
        os._exit(0)  # rank 0 could not prepare anything
    try:
        from training_service.launch import ranks

        ranks.join(rank, on_gpu=bool(job.devices))
        assist(job, arguments)
        fall = Fall(Outcome(status="succeeded"))
    except BaseException as error:  # noqa: BLE001
        fall = told(error)
    sys.stdout.flush()
    sys.stderr.flush()
    reports.send(fall)
    os._exit(0)


def _followed(helpers: list[Helper], lead: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What rank 0 returns or raises, unless another rank was the first to fall."""
    results: list[dict[str, Any]] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(lead())
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    leader = threading.Thread(target=work, name="rank-0", daemon=True)
    leader.start()
    while leader.is_alive() and not any(_fallen(helper) for helper in helpers):
        leader.join(TICK_SECONDS)
    _settle(leader, helpers)
    if results:
        return results[0]
    if errors and not peer_lost(errors[0]):
        raise errors[0]
    if failure := _first_failure(helpers):
        raise failure from (errors[0] if errors else None)
    leader.join()
    if errors:
        raise errors[0]
    return results[0]


def _settle(leader: threading.Thread, helpers: list[Helper]) -> None:
    until = monotonic() + SETTLE_SECONDS
    while leader.is_alive() and monotonic() < until:
        leader.join(TICK_SECONDS)
    while any(helper.process.is_alive() for helper in helpers) and monotonic() < until and not leader.is_alive():
        sleep(TICK_SECONDS)


def _fallen(helper: Helper) -> bool:
    if helper.process.is_alive():
        return False
    fall = _fall(helper)
    return fall is None or fall.outcome.status == "failed"


def _fall(helper: Helper) -> Fall | None:
    """What an ended rank said of its end; None when it came to no words."""
    if helper.fall is None:
        with suppress(EOFError, OSError):
            if helper.report.poll():
                helper.fall = helper.report.recv()
    return helper.fall


def _first_failure(helpers: list[Helper]) -> EngineFailure | None:
    fallen = [helper for helper in helpers if _fallen(helper)]
    fallen.sort(key=lambda helper: (fall := _fall(helper)) is not None and fall.after_another)
    return _words(fallen[0]) if fallen else None


def _words(helper: Helper) -> EngineFailure:
    fall = _fall(helper)
    if fall is not None:
        return fall.failure(helper.number)
    helper.relay.join(SETTLE_SECONDS)
    code = helper.process.exitcode
    how = f"by the signal {signal.Signals(-code).name}" if code in _SIGNALLED else f"with the exit code {code}"
    last = f" Its last line was: {helper.lines[-1]}" if helper.lines else ""
    return EngineFailure(
        f"Rank {helper.number} of the training ended {how}.{last}",
        "Look at the job's last log lines; a SIGKILL often means that memory ran out.",
        Reason.engine_killed,
    )


def _end(helpers: list[Helper], *, well: bool) -> None:
    """No rank outlives the run. One that has trained to the end is given time to say so."""
    until = monotonic() + (END_SECONDS if well else 0.0)
    for helper in helpers:
        helper.plan.close()
        helper.process.join(max(0.0, until - monotonic()))
        helper.process.kill()
        helper.process.join(END_SECONDS)
