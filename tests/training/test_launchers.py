"""Several processes train one model together, on this machine and on a Ray cluster."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from imts_shared.worker.engine import BadConfig
from tests.training import material
from tests.training.conftest import Place, Run
from training_service import launch

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0123456789abcdef" * 4)
"""Ray reads these when it is imported, which the process that attempts are forked from does."""

TWO: dict[str, Any] = {**material.TINY, "processes": 2, "epochs": 3.0}
STEPS = 18
"""24 rows, 2 at once in each of 2 processes, 3 times."""


def _data(place: Place) -> list[Any]:
    return [place.dataset("data", "alpaca", material.alpaca())]


def _attempt() -> psutil.Process:
    """Rank 0: the newest process that this one has forked."""
    return max(psutil.Process().children(), key=lambda process: process.create_time())


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
    undisturbed = place.run({**TWO, "samples": 1}, _data(place))
    _trained(undisturbed)
    assert {"before", "after"} <= set(undisturbed.result["samples"][0])
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """A Ray cluster of one node with two processors, for those on it and for those outside. Every process of it ends
    with the tests."""
    port, outside = _free_port(), _free_port()
    folder = Path(tempfile.mkdtemp(prefix="imts-rt-", dir="/tmp"))
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--temp-dir={folder}"]
    command += [f"--object-store-memory={100 * 2**20}", "--disable-usage-stats"]
    command += [f"--ray-client-server-port={outside}"]
    with (folder / "log").open("wb") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while not (ip := re.search(r"Local node IP: ([\d.]+)[\s\S]*Ray runtime started", (folder / "log").read_text())):
            assert head.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"{ip[1]}:{port}", f"ray://{ip[1]}:{outside}"
    finally:
        family = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        with suppress(subprocess.TimeoutExpired):
            head.wait(10)
        for process in [*family, psutil.Process(head.pid)] if head.poll() is None else family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(addresses: tuple[str, str]) -> str:
    return addresses[0]


def _members() -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if "ray::Member" in " ".join(one.info["cmdline"] or [])]


@pytest.mark.timeout(240)
def test_a_ray_cluster_trains_stops_and_goes_on(place: Place, cluster: str) -> None:
    spec = {**TWO, "launcher": "ray", "rayAddress": cluster}
    undisturbed = place.run(spec, _data(place))
    _trained(undisturbed)
    stopped = place.run(spec, _data(place), watch=_at(5, lambda stop: stop()))
    assert stopped.outcome["status"] == "stopped"
    newest = stopped.newest
    assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt", "manifest.json"} <= set(place.files(newest.prefix))
    resumed = place.run(spec, _data(place), resume_from=newest)
    assert sorted(resumed.losses) == list(range(newest.step + 1, STEPS + 1))
    assert {**stopped.losses, **resumed.losses} == pytest.approx(undisturbed.losses, abs=2e-4)


@pytest.mark.timeout(240)
def test_a_ray_cluster_is_reached_from_outside(place: Place, addresses: tuple[str, str]) -> None:
    spec = {**TWO, "launcher": "ray", "rayAddress": addresses[1]}
    _trained(place.run(spec, _data(place)))

    def kill_the_attempt(_: Any) -> None:
        os.kill(_attempt().pid, signal.SIGKILL)

    with pytest.raises(AssertionError):
        place.run({**spec, "epochs": 100.0}, _data(place), watch=_at(3, kill_the_attempt))
    assert _gone(_members(), 30)


@pytest.mark.timeout(180)
def test_actors_end_with_the_attempt_and_say_when_they_end_alone(place: Place, cluster: str) -> None:
    spec = {**TWO, "epochs": 100.0, "launcher": "ray", "rayAddress": cluster}
    family: list[psutil.Process] = []

    def kill_the_attempt(_: Any) -> None:
        family.extend(_members())
        os.kill(_attempt().pid, signal.SIGKILL)

    with pytest.raises(AssertionError):
        place.run(spec, _data(place), watch=_at(3, kill_the_attempt))
    assert len(family) == 2
    assert _gone(family, 10)

    def kill_a_rank(_: Any) -> None:
        max(_members(), key=lambda process: process.pid).kill()

    run = place.run(spec, _data(place), watch=_at(3, kill_a_rank))
    assert run.outcome["status"] == "failed"
    assert "is gone" in run.outcome["message"]
    assert _gone(_members(), 10)


def test_a_cluster_that_is_too_small_or_not_there(place: Place, cluster: str) -> None:
    spec = {**TWO, "launcher": "ray", "rayAddress": cluster, "processes": 3}
    run = place.run(spec, _data(place), options={"rayWaitSeconds": "3"})
    assert run.outcome["reason"] == "bad_config"
    assert "3 processes need 3 CPUs at once" in run.outcome["message"]
    nobody = f"127.0.0.1:{_free_port()}"
    run = place.run({**spec, "rayAddress": nobody}, _data(place))
    assert run.outcome["reason"] == "bad_config"
    assert run.outcome["message"] == f"No Ray cluster answers at {nobody}."


@pytest.mark.timeout(180)
def test_a_cluster_of_its_own_ends_with_the_attempt(place: Place) -> None:
    spec = {**TWO, "epochs": 1.0, "launcher": "ray", "rayAddress": "local"}
    family: list[psutil.Process] = []
    run = place.run(spec, _data(place), watch=_at(2, lambda _: family.extend(_attempt().children(recursive=True))))
    assert run.result["steps"] == STEPS / 3
    assert family
    assert _gone(family, 10)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"launcher": "process"}, "launcher process is one process"),
        ({"launcher": "ray"}, "needs the cluster's address"),
        ({"gpus": 4}, "do not go together"),
        ({"launcher": "ray", "rayAddress": "auto", "deepspeed": "2"}, "holds the whole model"),
        ({"rayAddress": "auto"}, "for launcher ray alone"),
    ],
)
def test_what_cannot_be_launched_is_said(place: Place, more: dict[str, Any], words: str) -> None:
    run = place.run({**TWO, **more}, _data(place))
    assert run.outcome["reason"] == "bad_config"
    assert words in run.outcome["message"]


def test_each_process_has_a_gpu_of_its_own() -> None:
    assert launch.chosen({"gpus": 2}, ["0", "1"]) == launch.Launch("torchrun", 2)
    assert launch.chosen({}, ["0"]) == launch.Launch("process", 1)
    assert launch.chosen({"deepspeed": "2"}, ["0"]) == launch.Launch("torchrun", 1)
    assert launch.chosen({"launcher": "ray", "rayAddress": "auto", "gpus": 4}, []) == launch.Launch("ray", 4)
    with pytest.raises(BadConfig, match="2 processes need 2 GPUs, one each; this attempt has 1"):
        launch.chosen({"processes": 2}, ["0"])
