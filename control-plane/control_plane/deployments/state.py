"""What state a deployment is in, and what becomes of its newest version: pure, and the only place that decides it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imts_shared.contracts.deployments import DeploymentReason, DeploymentState

S = DeploymentState
R = DeploymentReason


@dataclass(frozen=True)
class Failure:
    """Why a version was given up."""

    revision: int
    reason: DeploymentReason
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Seen:
    """A replica as it was last reported."""

    revision: int
    number: int
    state: DeploymentState
    reason: DeploymentReason | None = None
    message: str | None = None
    hint: str | None = None
    progress: dict[str, Any] | None = None
    draining: bool = False


@dataclass(frozen=True)
class Standing:
    """All that the state follows from. `failure` is the newest version's; `waiting` says why no worker has it."""

    wanted: int
    newest: int
    serving: int | None = None
    failure: Failure | None = None
    stopped: bool = False
    asleep: bool = False
    owned: bool = False
    waiting: tuple[DeploymentReason | None, str | None] = (None, None)
    replicas: Sequence[Seen] = ()

    @property
    def runs(self) -> bool:
        return self.wanted > 0 and not self.stopped and not self.asleep

    @property
    def in_rollout(self) -> bool:
        return self.serving != self.newest and self.failure is None

    def of(self, revision: int | None) -> list[Seen]:
        """The replicas of this version that shall be there."""
        return [
            one for one in self.replicas if one.revision == revision and not one.draining and one.number < self.wanted
        ]

    def ready(self, revision: int | None) -> int:
        return sum(one.state == S.ready for one in self.of(revision))


@dataclass(frozen=True)
class Derived:
    state: DeploymentState
    reason: DeploymentReason | None = None
    message: str | None = None
    error: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    ready: int = 0


@dataclass(frozen=True)
class Serve:
    """The newest version takes the traffic from now on."""


def rollout(now: Standing) -> Serve | Failure | None:
    """What the reports mean for a newest version that does not serve yet.

    It serves when as many of its replicas are ready as are wanted; where nothing else serves, one is enough. It is
    given up when one of its replicas failed for good, or, where nothing else serves, when all of them did.
    """
    if not now.runs or not now.in_rollout:
        return None
    ready = now.ready(now.newest)
    if ready >= now.wanted or (ready and not now.ready(now.serving)):
        return Serve()
    failed = [one for one in now.of(now.newest) if one.state == S.failed]
    if failed and (now.serving is not None or len(failed) >= now.wanted):
        return _failure(failed[0])
    return None


def derive(now: Standing) -> Derived:
    if now.stopped:
        return Derived(S.stopped, R.user_stopped, _leaving(now))
    if now.asleep:
        return Derived(S.stopped, R.idle, "It sleeps; the next request wakes it.")
    if now.wanted == 0:
        return Derived(S.stopped, R.user_stopped, "It is scaled to no replicas.")
    if now.serving is not None:
        return _serving(now)
    if now.failure is not None:
        return _failed(now.failure)
    return _coming(now, now.newest)


def _serving(now: Standing) -> Derived:
    own, ready = now.of(now.serving), now.ready(now.serving)
    if ready == 0:
        failed = [one for one in own if one.state == S.failed]
        if failed and len(failed) == len(own):
            if now.in_rollout:
                return _coming(now, now.newest)
            return _failed(_failure(failed[0]))
        return _coming(now, now.serving)
    if ready < now.wanted:
        other = _worst(own)
        return Derived(
            S.degraded,
            other.reason if other else None,
            (other.message if other else None) or f"{ready} of {now.wanted} replicas are ready.",
            _error(other) if other and other.state == S.failed else None,
            other.progress if other else None,
            ready,
        )
    if now.failure is not None:
        said = now.failure
        message = f"Version {said.revision} failed and takes no traffic; version {now.serving} goes on."
        return Derived(S.ready, said.reason, message, _document(said), None, ready)
    if now.in_rollout:
        other = _worst(now.of(now.newest))
        message = f"Version {now.newest} is coming up beside version {now.serving}."
        reason = other.reason if other else None
        return Derived(S.ready, reason, message, None, other.progress if other else None, ready)
    return Derived(S.ready, ready=ready)


def _coming(now: Standing, revision: int | None) -> Derived:
    """Nothing of it answers yet, or not any more."""
    if not now.owned:
        return Derived(S.pending, *now.waiting)
    other = _worst(now.of(revision))
    if other is None:
        return Derived(S.pending)
    state = S.pending if other.state == S.pending else S.starting
    return Derived(state, other.reason, other.message, None, other.progress)


_FIRST = (S.starting, S.degraded, S.pending, S.failed, S.stopped)


def _worst(replicas: Sequence[Seen]) -> Seen | None:
    """The replica that tells most about why not all is ready: one that moves before one that rests."""
    others = [one for one in replicas if one.state != S.ready]
    return min(others, key=lambda one: (_FIRST.index(one.state), one.number), default=None)


def _leaving(now: Standing) -> str | None:
    count = len(now.replicas)
    return f"{count} of its replicas end their running requests." if count else None


def _failed(said: Failure) -> Derived:
    return Derived(S.failed, said.reason, said.message, _document(said))


def _failure(one: Seen) -> Failure:
    reason = one.reason or R.engine_error
    return Failure(one.revision, reason, one.message or "The engine failed without a word.", one.hint)


def _error(one: Seen) -> dict[str, Any]:
    return _document(_failure(one))


def _document(said: Failure) -> dict[str, Any]:
    return {"code": str(said.reason), "message": said.message, "hint": said.hint}
