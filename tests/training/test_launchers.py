"""Several processes train one model together, on this machine and on a Ray cluster."""

import os
import signal
import time
from typing import Any

import psutil
import pytest

from tests.training import material
from tests.training.conftest import Place, Run

TWO: dict[str, Any] = {**material.TINY, "processes": 2, "epochs": 3.0}
STEPS = 18
"""24 rows, 2 at once in each of 2 processes, 3 times."""


def _data(place: Place) -> list[Any]:
    return [place.dataset("data", "alpaca", material.alpaca())]


def _attempt() -> psutil.Process:
    """Rank 0: the newest process that this one has forked."""
    return max(psutil.Process().children(), key=lambda process: process.pid)


def _at(step: int, act: Any) -> Any:
    """A watch that acts once, when a step is done."""
    done: list[int] = []

    def watch(event: dict[str, Any], stop: Any) -> None:
        if event["type"] == "metric" and event["data"]["step"] >= step and not done:
            done.append(step)
            act(stop)

    return watch


def _gone(processes: list[psutil.Process], within: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=within)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def _trained(run: Run) -> None:
    assert run.result["steps"] == STEPS
    assert [point["step"] for point in run.of("metric") if "loss" in point] == list(range(1, STEPS + 1))
    first, last = (sum(run.losses[step] for step in part) for part in ((1, 2, 3), (STEPS - 2, STEPS - 1, STEPS)))
    assert last < first
    [model] = run.result["models"]
    assert model["kind"] == "adapter"


def test_two_processes_train_stop_and_go_on(place: Place) -> None:
    undisturbed = place.run(TWO, _data(place))
    _trained(undisturbed)
    stopped = place.run(TWO, _data(place), watch=_at(5, lambda stop: stop()))
    assert stopped.outcome["status"] == "stopped"
    newest = stopped.newest
    assert 5 <= newest.step < STEPS
    assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt", "manifest.json"} <= set(place.files(newest.prefix))
    resumed = place.run(TWO, _data(place), resume_from=newest)
    assert sorted(resumed.losses) == list(range(newest.step + 1, STEPS + 1))
    both = {**stopped.losses, **resumed.losses}
    assert both == pytest.approx(undisturbed.losses, abs=2e-4)


def test_two_processes_learn_what_one_with_twice_the_batch_does(place: Place) -> None:
    two, one = (place.run({**TWO, **more}, _data(place)) for more in ({}, {"processes": 1, "batchSize": 4}))
    assert two.losses == pytest.approx(one.losses, abs=2e-3)


def test_a_killed_rank_fails_the_attempt_with_words(place: Place) -> None:
    killed: list[float] = []

    def kill(_: Any) -> None:
        [rank] = _attempt().children()
        killed.append(time.monotonic())
        os.kill(rank.pid, signal.SIGKILL)

    run = place.run({**TWO, "epochs": 100.0}, _data(place), watch=_at(3, kill))
    assert time.monotonic() - killed[0] < 10
    assert run.outcome["status"] == "failed"
    assert "Rank 1 of the training ended by the signal SIGKILL" in run.outcome["message"]


def test_no_rank_outlives_the_first(place: Place) -> None:
    family: list[psutil.Process] = []

    def kill(_: Any) -> None:
        attempt = _attempt()
        family.extend([attempt, *attempt.children(recursive=True)])
        os.kill(attempt.pid, signal.SIGKILL)

    with pytest.raises(AssertionError):  # an attempt that says nothing of its end
        place.run({**TWO, "epochs": 100.0}, _data(place), watch=_at(3, kill))
    assert len(family) >= 2
    assert _gone(family, 5)
