"""The state machine of a job: pure, whole, and the only place where a next state is decided.

`decide` takes where a job stands and what happens to it and says where it goes (`Move`), that nothing changes
because it is already so (`Stay`), or why that cannot be (`Refuse`). Applying the answer is transitions.py's.
"""

from dataclasses import dataclass
from enum import StrEnum

from imts_shared.contracts.jobs import FINAL_STATES, JobState, Reason

S = JobState

HELD_STATES = frozenset({S.dispatched, S.running, S.stopping})
"""States in which an attempt holds a worker's slot and a live token."""

RETRIED_REASONS = frozenset({Reason.worker_lost, Reason.engine_killed})
"""Lost hardware is tried again; the user's mistake is not."""


class Happening(StrEnum):
    # the watcher's
    dispatch = "dispatch"
    undelivered = "undelivered"
    lose = "lose"
    # the worker's
    claim = "claim"
    succeed = "succeed"
    fail = "fail"
    halt = "halt"
    release = "release"
    # the user's
    stop = "stop"
    pause = "pause"
    resume = "resume"
    retry = "retry"


@dataclass(frozen=True)
class Move:
    state: JobState
    reason: Reason | None = None
    counted: bool = True
    """False gives back the try that the ended attempt took."""
    delayed: bool = False
    """True waits before the next attempt, longer each time."""
    fresh: bool = False
    """True starts the count of tries anew."""


@dataclass(frozen=True)
class Stay:
    """It is already so: the same request twice changes nothing."""


@dataclass(frozen=True)
class Refuse:
    code: str
    message: str
    hint: str | None = None


Decision = Move | Stay | Refuse


@dataclass(frozen=True)
class Standing:
    """Where a job stands, as far as decisions need it."""

    state: JobState
    reason: Reason | None
    tries: int
    max_attempts: int


def decide(job: Standing, happening: Happening, reason: Reason | None = None) -> Decision:
    return _RULES[happening](job, reason)


def _dispatch(job: Standing, _: Reason | None) -> Decision:
    if job.state == S.queued:
        return Move(S.dispatched, job.reason)
    return Refuse("not_queued", f"The job is {job.state}, not queued.")


def _undelivered(job: Standing, _: Reason | None) -> Decision:
    return Move(S.queued, Reason.undelivered) if job.state == S.dispatched else Stay()


def _claim(job: Standing, _: Reason | None) -> Decision:
    return Move(S.running) if job.state == S.dispatched else _attempt_over(job)


def _lose(job: Standing, _: Reason | None) -> Decision:
    if job.state == S.dispatched:
        return Move(S.queued, Reason.undelivered)
    if job.state == S.running:
        return _again_or_failed(job, Reason.worker_lost)
    if job.state == S.stopping:
        return _as_asked(job)
    return Stay()


def _succeed(job: Standing, _: Reason | None) -> Decision:
    """Work that was finished before the stop was heard is finished."""
    return Move(S.succeeded) if job.state in {S.running, S.stopping} else _attempt_over(job)


def _fail(job: Standing, reason: Reason | None) -> Decision:
    reason = reason or Reason.engine_error
    if job.state == S.running:
        return _again_or_failed(job, reason)
    if job.state == S.stopping:
        if job.reason == Reason.user_paused and reason not in RETRIED_REASONS:
            return Move(S.failed, reason)
        return _as_asked(job)
    return _attempt_over(job)


def _halt(job: Standing, _: Reason | None) -> Decision:
    if job.state == S.stopping:
        return _as_asked(job)
    if job.state == S.running:
        return Move(S.failed, Reason.engine_error)
    return _attempt_over(job)


def _release(job: Standing, _: Reason | None) -> Decision:
    if job.state == S.running:
        return Move(S.queued, Reason.worker_shutdown, counted=False)
    if job.state == S.stopping:
        return _as_asked(job)
    return _attempt_over(job)


def _stop(job: Standing, _: Reason | None) -> Decision:
    if job.state in {S.queued, S.dispatched, S.paused}:
        return Move(S.stopped, Reason.user_stopped)
    if job.state == S.running or (job.state == S.stopping and job.reason != Reason.user_stopped):
        return Move(S.stopping, Reason.user_stopped)
    return Stay()


def _pause(job: Standing, _: Reason | None) -> Decision:
    if job.state in {S.queued, S.dispatched}:
        return Move(S.paused, Reason.user_paused)
    if job.state == S.running:
        return Move(S.stopping, Reason.user_paused)
    if job.state == S.paused or (job.state == S.stopping and job.reason == Reason.user_paused):
        return Stay()
    if job.state == S.stopping:
        return Refuse("job_stopping", "The job is being stopped and cannot be paused.", "Retry it once it is stopped.")
    return _ended(job, "A job that has ended cannot be paused.")


def _resume(job: Standing, _: Reason | None) -> Decision:
    if job.state == S.paused:
        return Move(S.queued, fresh=True)
    if job.state in {S.queued, S.dispatched, S.running}:
        return Stay()
    if job.state == S.stopping:
        return Refuse("job_stopping", "The job is still on its way to a halt.", "Resume it once it is paused.")
    return _ended(job, "Only a paused job can be resumed.")


def _retry(job: Standing, _: Reason | None) -> Decision:
    if job.state in {S.failed, S.stopped}:
        return Move(S.queued, fresh=True)
    if job.state in {S.queued, S.dispatched, S.running}:
        return Stay()
    if job.state == S.paused:
        return Refuse("job_paused", "The job is paused.", "Resume it instead.")
    if job.state == S.stopping:
        return Refuse("job_stopping", "The job is still on its way to a halt.", "Retry it once it is stopped.")
    return _ended(job, "The job has succeeded; there is nothing to retry.")


def _again_or_failed(job: Standing, reason: Reason) -> Decision:
    if reason in RETRIED_REASONS and job.tries < job.max_attempts:
        return Move(S.queued, reason, delayed=True)
    return Move(S.failed, reason)


def _as_asked(job: Standing) -> Decision:
    """A stopping job ends as its user asked, whatever became of the attempt."""
    if job.reason == Reason.user_paused:
        return Move(S.paused, Reason.user_paused)
    return Move(S.stopped, Reason.user_stopped)


def _attempt_over(job: Standing) -> Refuse:
    return Refuse("attempt_over", f"The job is {job.state}; this attempt has no say in it any more.")


def _ended(job: Standing, message: str) -> Refuse:
    hints = {
        S.succeeded: "Clone the job to run it once more.",
        S.failed: "Retry the job, or clone it with another configuration.",
        S.stopped: "Retry the job, or clone it with another configuration.",
    }
    return Refuse("job_ended", f"{message} It is {job.state}.", hints.get(job.state))


_RULES = {
    Happening.dispatch: _dispatch,
    Happening.undelivered: _undelivered,
    Happening.lose: _lose,
    Happening.claim: _claim,
    Happening.succeed: _succeed,
    Happening.fail: _fail,
    Happening.halt: _halt,
    Happening.release: _release,
    Happening.stop: _stop,
    Happening.pause: _pause,
    Happening.resume: _resume,
    Happening.retry: _retry,
}

__all__ = [
    "FINAL_STATES",
    "HELD_STATES",
    "Decision",
    "Happening",
    "Move",
    "Refuse",
    "Standing",
    "Stay",
    "decide",
]
