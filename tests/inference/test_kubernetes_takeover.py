"""A worker that ends, in whatever way, leaves its engines in the cluster, and the next one goes on with them."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from tests.inference.conftest import Start
from tests.inference.kubernetes_api import Cluster
from tests.inference.plane import Plane
from tests.inference.test_replicas import generate, of, pid
from tests.inference.workers import alive, until


def test_a_worker_that_ends_leaves_its_engines_and_the_next_takes_them_over(
    start: Start, cluster: Cluster, plane: Plane, gguf: Path
) -> None:
    worker = start()
    plane.want("one", [of(gguf)], servingRevision=1, replicas=2)
    plane.want("gone", [of(gguf)])
    before = worker.state("one", "ready", 20)
    worker.state("one", "ready", 20, number=1)
    worker.state("gone", "ready", 20)

    def heard() -> list[dict[str, Any]]:
        return [line for line in plane.lines if line["deploymentId"] == "one" and "listening" in line["text"]]

    until(lambda: len(heard()) == 2, 10)
    serving, uids = pid(before["url"]), {pod.body["metadata"]["uid"] for pod in cluster.pods()}
    stop, answers = threading.Event(), []
    asking = threading.Thread(target=_asks, args=(before["url"], stop, answers))
    asking.start()
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(15)
    assert alive(serving)
    assert not any(request["draining"] for request in plane.requests)
    plane.away = True
    del plane.phases[:]
    worker = start()
    time.sleep(3)
    assert {pod.body["metadata"]["uid"] for pod in cluster.pods()} == uids, "nothing is ended before it is known"
    plane.forget("gone")
    plane.want("one", [of(gguf)], servingRevision=1, drainSeconds=300)
    said = len(plane.requests)
    plane.away = False
    until(lambda: len(cluster.there("deployments")) < 3 and len(cluster.there("services")) < 3, 15)
    after = worker.state("one", "ready", 10)
    time.sleep(2)
    stop.set()
    asking.join()
    assert set(answers) == {200}
    assert pid(after["url"]) == serving
    same = ("url", "startedAt", "restarts")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert {state for name, state, _ in plane.phases if name == "one/1"} == {"ready"}, "gateways see no gap"
    assert plane.requests[said]["workerId"] == plane.requests[0]["workerId"]
    assert len(heard()) == 2, "one of each replica, however often their logs are read"
    assert len(cluster.there("deployments")) == 2, "who leaves has its time to drain"
    os.kill(serving, signal.SIGKILL)
    until(lambda: plane.replica("one")["restarts"] == 1, 10)
    worker.state("one", "ready", 20)


def _asks(url: str, stop: threading.Event, answers: list[int]) -> None:
    while not stop.is_set():
        try:
            answers.append(generate(url).status_code)
        except httpx.TransportError:
            answers.append(0)
        time.sleep(0.1)


def test_a_worker_that_is_killed_leaves_its_engines_too_and_changed_settings_replace_them(
    start: Start, cluster: Cluster, plane: Plane, gguf: Path
) -> None:
    worker = start()
    plane.want("one", [of(gguf)])
    before = pid(worker.state("one", "ready", 20)["url"])
    worker.process.kill()
    worker.process.wait()
    assert alive(before)
    worker = start(IMTS_ENGINE_POD='{"cpu": 2, "nodeSelector": {"disk": "fast"}}')
    until(lambda: not alive(before), 20)
    until(lambda: plane.replica("one")["state"] == "starting", 5, lambda: plane.replica("one"))
    assert pid(worker.state("one", "ready", 20)["url"]) != before
    assert cluster.there("deployments")[0]["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "fast"}
