"""Every state meets every happening, and the answer is the one written down here."""

import itertools

import pytest

from control_plane.jobs.lifecycle import FINAL_STATES, HELD_STATES, Happening, Move, Refuse, Standing, Stay, decide
from imts_shared.contracts.jobs import JobState, Reason

S, H, R = JobState, Happening, Reason

STAY = "stay"
REFUSED = "refused"

# state (and why it is stopping) -> happening -> where it goes
TABLE: dict[tuple[JobState, Reason | None], dict[Happening, str]] = {
    (S.queued, None): {
        H.dispatch: "dispatched",
        H.undelivered: STAY,
        H.lose: STAY,
        H.claim: REFUSED,
        H.succeed: REFUSED,
        H.fail: REFUSED,
        H.halt: REFUSED,
        H.release: REFUSED,
        H.stop: "stopped user_stopped",
        H.pause: "paused user_paused",
        H.resume: STAY,
        H.retry: STAY,
    },
    (S.dispatched, None): {
        H.dispatch: REFUSED,
        H.undelivered: "queued undelivered",
        H.lose: "queued undelivered",
        H.claim: "running",
        H.succeed: REFUSED,
        H.fail: REFUSED,
        H.halt: REFUSED,
        H.release: REFUSED,
        H.stop: "stopped user_stopped",
        H.pause: "paused user_paused",
        H.resume: STAY,
        H.retry: STAY,
    },
    (S.running, None): {
        H.dispatch: REFUSED,
        H.undelivered: STAY,
        H.lose: "queued worker_lost",
        H.claim: REFUSED,
        H.succeed: "succeeded",
        H.fail: "failed engine_error",
        H.halt: "failed engine_error",
        H.release: "queued worker_shutdown",
        H.stop: "stopping user_stopped",
        H.pause: "stopping user_paused",
        H.resume: STAY,
        H.retry: STAY,
    },
    (S.stopping, R.user_stopped): {
        H.dispatch: REFUSED,
        H.undelivered: STAY,
        H.lose: "stopped user_stopped",
        H.claim: REFUSED,
        H.succeed: "succeeded",
        H.fail: "stopped user_stopped",
        H.halt: "stopped user_stopped",
        H.release: "stopped user_stopped",
        H.stop: STAY,
        H.pause: REFUSED,
        H.resume: REFUSED,
        H.retry: REFUSED,
    },
    (S.stopping, R.user_paused): {
        H.dispatch: REFUSED,
        H.undelivered: STAY,
        H.lose: "paused user_paused",
        H.claim: REFUSED,
        H.succeed: "succeeded",
        H.fail: "failed engine_error",
        H.halt: "paused user_paused",
        H.release: "paused user_paused",
        H.stop: "stopping user_stopped",
        H.pause: STAY,
        H.resume: REFUSED,
        H.retry: REFUSED,
    },
    (S.paused, R.user_paused): {
        H.dispatch: REFUSED,
        H.undelivered: STAY,
        H.lose: STAY,
        H.claim: REFUSED,
        H.succeed: REFUSED,
        H.fail: REFUSED,
        H.halt: REFUSED,
        H.release: REFUSED,
        H.stop: "stopped user_stopped",
        H.pause: STAY,
        H.resume: "queued",
        H.retry: REFUSED,
    },
    **{
        (state, None): {
            H.dispatch: REFUSED,
            H.undelivered: STAY,
            H.lose: STAY,
            H.claim: REFUSED,
            H.succeed: REFUSED,
            H.fail: REFUSED,
            H.halt: REFUSED,
            H.release: REFUSED,
            H.stop: STAY,
            H.pause: REFUSED,
            H.resume: REFUSED,
            H.retry: REFUSED if state == S.succeeded else "queued",
        }
        for state in FINAL_STATES
    },
}


def told(decision: Move | Stay | Refuse) -> str:
    if isinstance(decision, Stay):
        return STAY
    if isinstance(decision, Refuse):
        return REFUSED
    return f"{decision.state} {decision.reason}" if decision.reason else str(decision.state)


def test_the_table_is_whole() -> None:
    assert {state for state, _ in TABLE} == set(JobState)
    assert all(set(row) == set(Happening) for row in TABLE.values())


@pytest.mark.parametrize(
    ("standing", "happening"), [(standing, h) for standing, h in itertools.product(TABLE, Happening)], ids=str
)
def test_every_pair(standing: tuple[JobState, Reason | None], happening: Happening) -> None:
    state, reason = standing
    assert told(decide(Standing(state, reason, tries=1, max_attempts=3), happening)) == TABLE[standing][happening]


@pytest.mark.parametrize("reason", list(Reason))
def test_only_lost_hardware_is_tried_again_and_only_while_tries_are_left(reason: Reason) -> None:
    again = reason in {R.worker_lost, R.engine_killed}
    decision = decide(Standing(S.running, None, tries=1, max_attempts=2), H.fail, reason)
    assert told(decision) == (f"queued {reason}" if again else f"failed {reason}")
    assert isinstance(decision, Move)
    assert decision.delayed == again
    assert told(decide(Standing(S.running, None, tries=2, max_attempts=2), H.fail, reason)) == f"failed {reason}"


def test_doing_it_twice_is_doing_it_once() -> None:
    for (state, reason), happening in itertools.product(TABLE, (H.stop, H.pause, H.resume, H.retry)):
        first = decide(Standing(state, reason, 1, 3), happening)
        if isinstance(first, Move):
            second = decide(Standing(first.state, first.reason, 1, 3), happening)
            assert isinstance(second, Stay), (state, happening)


def test_a_released_attempt_gives_its_try_back_and_a_user_starts_the_count_anew() -> None:
    released = decide(Standing(S.running, None, 1, 3), H.release)
    assert isinstance(released, Move)
    assert not released.counted
    for state, happening in ((S.failed, H.retry), (S.stopped, H.retry), (S.paused, H.resume)):
        decision = decide(Standing(state, None, 3, 3), happening)
        assert isinstance(decision, Move)
        assert decision.fresh


def test_an_attempt_lives_in_three_states() -> None:
    assert {S.dispatched, S.running, S.stopping} == HELD_STATES
