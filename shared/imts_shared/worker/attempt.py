"""One attempt of a job, from the message to the outcome."""

import errno
import shutil
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Literal
from uuid import uuid4

from loguru import logger
from prometheus_client import Counter, Gauge

from imts_shared.contracts.internal import ClaimAnswer, ClaimRequest, Outcome, RunMessage
from imts_shared.contracts.jobs import Reason
from imts_shared.worker import memory
from imts_shared.worker.children import PULSE_SHARE, Child
from imts_shared.worker.fence import Fence
from imts_shared.worker.gpus import Gpus
from imts_shared.worker.masking import Mask
from imts_shared.worker.outbox import Outbox
from imts_shared.worker.plan import ChildPlan
from imts_shared.worker.reports import Abandoned, Reporter
from imts_shared.worker.wire import Away, Over, Silent, Unfit, Wire

CLAIM_SECONDS = 12.0
CLAIM_TIMEOUT = 4.0
CLAIM_PAUSE = 0.25
SHUTDOWN_GRACE_SECONDS = 8.0
SHUTDOWN_REPORT_SECONDS = 13.0

RUNNING = Gauge("imts_worker_attempts_running", "Attempts that this worker runs.")
ENDED = Counter("imts_worker_attempts_total", "Attempts that ended here.", ["outcome"])

Cause = Literal["stop", "pause", "timeout", "shutdown"]


@dataclass(frozen=True)
class Workplace:
    """What all attempts of a worker have in common."""

    worker_id: str
    engine: str
    control_plane_url: str
    storage_url: str
    storage_options: dict[str, str]
    scratch: Path
    options: dict[str, str]
    gpus: Gpus


class Attempt:
    def __init__(self, place: Workplace, message: RunMessage) -> None:
        self._place = place
        self._message = message
        self._wire = Wire(place.control_plane_url, message.job_id, message.token)
        self._log = logger.bind(job=message.job_id, attempt=message.attempt)
        self._outbox = Outbox()
        self._shutdown = threading.Event()
        self._cause: Cause | None = None
        self._reporter: Reporter | None = None

    def shut_down(self) -> None:
        """Gives the job back: called from another thread when the worker is told to end."""
        if self._reporter is not None:
            self._reporter.give_up_at = monotonic() + SHUTDOWN_REPORT_SECONDS
        self._shutdown.set()
        self._outbox.wake()

    def run(self) -> None:
        claimed = self._claim()
        if claimed is None:
            return
        claim, fence = claimed
        reporter = Reporter(self._wire, claim.attempt, self._outbox, fence, claim.beat_seconds)
        self._reporter = reporter
        scratch = self._place.scratch / f"{claim.job_id}-{claim.attempt}-{uuid4().hex[:8]}"
        with RUNNING.track_inprogress():
            try:
                outcome = self._work(claim, fence, scratch, reporter)
                reporter.finish(outcome)
                ENDED.labels(outcome.status).inc()
                self._log.bind(outcome=outcome.status, reason=outcome.reason).info("attempt ended")
            except Over as error:
                ENDED.labels("refused").inc()
                self._log.bind(why=str(error)).warning("attempt refused")
            except Unfit as error:
                self._log.bind(why=str(error)).error("report refused")
                self._say_unfit(reporter, str(error))
            except Abandoned:
                ENDED.labels("unreported").inc()
                self._log.warning("outcome not delivered")
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def _claim(self) -> tuple[ClaimAnswer, Fence] | None:
        """Repeats until answered: an answer may be lost, and the same claim id is told the same again."""
        request = ClaimRequest(attempt=self._message.attempt, worker_id=self._place.worker_id, claim_id=uuid4().hex)
        give_up_at = monotonic() + CLAIM_SECONDS
        while not self._shutdown.is_set():
            sent_at = monotonic()
            try:
                answer = self._wire.claim(request, CLAIM_TIMEOUT)
            except (Over, Unfit) as error:
                self._log.bind(why=str(error)).info("message dropped")
                return None
            except (Away, Silent) as error:
                if monotonic() > give_up_at:
                    self._log.bind(why=str(error)).warning("claim not answered")
                    return None
                sleep(CLAIM_PAUSE)
                continue
            return answer, Fence(answer.lease_seconds, sent_at)
        return None

    def _work(self, claim: ClaimAnswer, fence: Fence, scratch: Path, reporter: Reporter) -> Outcome:
        with self._place.gpus.lent(claim.spec.get("gpus")) as devices:
            return self._work_on(devices, claim, fence, scratch, reporter)

    def _work_on(
        self, devices: list[str], claim: ClaimAnswer, fence: Fence, scratch: Path, reporter: Reporter
    ) -> Outcome:
        plan = ChildPlan(
            engine=self._place.engine,
            claim=claim.model_dump_json().encode(),
            storage_url=self._place.storage_url,
            storage_options=self._place.storage_options,
            scratch=str(scratch),
            pulse_seconds=claim.lease_seconds * PULSE_SHARE,
            options=self._place.options,
            devices=devices,
        )
        started = monotonic()
        killed_before = memory.oom_kills()
        try:
            scratch.mkdir(parents=True)
            child = Child(plan, self._outbox, fence, Mask(claim.secrets.values()))
        except OSError as error:
            self._log.bind(why=str(error)).error("child not started")
            return Outcome(
                status="failed",
                reason=Reason.out_of_disk if error.errno == errno.ENOSPC else Reason.worker_lost,
                message=f"The worker could not start the engine's process: {error}",
            )
        try:
            self._follow(claim, child, reporter, started)
        finally:
            child.kill()
            child.join()
        return self._judge(child, killed_before)

    def _follow(self, claim: ClaimAnswer, child: Child, reporter: Reporter, started: float) -> None:
        """Reports until the child has ended, and passes on what the answers order."""
        limit = None if claim.timeout_seconds is None else started + claim.timeout_seconds
        while True:
            reporter.wait()
            if self._shutdown.is_set() and self._cause != "shutdown":
                self._order(child, "shutdown", min(claim.stop_grace_seconds, SHUTDOWN_GRACE_SECONDS))
            if limit is not None and monotonic() > limit and self._cause is None:
                self._order(child, "timeout", claim.stop_grace_seconds)
            if child.ended:
                return
            order = reporter.send()
            if order is None:
                continue
            child.thaw()
            if order != "continue" and self._cause is None:
                self._order(child, order, claim.stop_grace_seconds)

    def _order(self, child: Child, cause: Cause, grace_seconds: float) -> None:
        self._log.bind(cause=cause).info("attempt told to end")
        self._cause = cause
        child.tell("pause" if cause == "pause" else "stop", grace_seconds)

    def _say_unfit(self, reporter: Reporter, why: str) -> None:
        try:
            reporter.replace(
                Outcome(
                    status="failed",
                    reason=Reason.engine_error,
                    message=f"The control plane does not take what the engine reported: {why}"[:2_000],
                )
            )
        except (Over, Unfit, Abandoned) as error:
            self._log.bind(why=str(error)).error("outcome refused")

    def _judge(self, child: Child, killed_before: int) -> Outcome:
        """How it ended. An engine that finished its work before it heeded an order has finished it."""
        said = child.outcome
        if said is not None and (said.status == "succeeded" or (said.status == "failed" and not child.killed)):
            return said
        if self._cause is not None:
            return _as_told(self._cause)
        if said is not None:
            return Outcome(
                status="failed", reason=Reason.engine_error, message="The engine stopped without being told to."
            )
        return _judge_exit(child.exit_code, killed_before)


def _as_told(cause: Cause) -> Outcome:
    match cause:
        case "stop":
            return Outcome(status="stopped", reason=Reason.user_stopped)
        case "pause":
            return Outcome(status="stopped", reason=Reason.user_paused)
        case "shutdown":
            return Outcome(status="released", reason=Reason.worker_shutdown)
        case "timeout":
            return Outcome(
                status="failed",
                reason=Reason.timeout,
                message="The attempt ran longer than its timeoutSeconds.",
                hint="Submit it with a longer timeoutSeconds, or with less to do.",
            )


def _judge_exit(code: int | None, killed_before: int) -> Outcome:
    if code == -signal.SIGKILL and memory.oom_kills() > killed_before:
        return Outcome(
            status="failed",
            reason=Reason.out_of_memory,
            message="The engine's process was ended because the machine ran out of memory.",
            hint=memory.HINT,
        )
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return Outcome(
            status="failed",
            reason=Reason.engine_killed,
            message=f"The engine's process was ended by the signal {name}.",
            hint="Look at the job's last log lines; a SIGKILL often means that memory ran out.",
        )
    if code == 255:
        return Outcome(
            status="failed",
            reason=Reason.engine_killed,
            message="The engine's process disappeared with the process that started it.",
        )
    return Outcome(
        status="failed",
        reason=Reason.engine_error,
        message=f"The engine's process ended with the exit code {code} and without a result.",
        hint="Look at the job's last log lines.",
    )
