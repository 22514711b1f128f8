"""Replicas as Deployments and Services: a real worker, an API that checks as a cluster's does, real processes."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.inference.conftest import IMAGE, Start
from tests.inference.kubernetes_api import Cluster
from tests.inference.plane import SERVICE_KEY, Plane
from tests.inference.test_replicas import generate, of, pid
from tests.inference.workers import Worker, until


def container(cluster: Cluster) -> dict[str, Any]:
    (deployment,) = cluster.there("deployments")
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def test_a_replica_is_a_deployment_and_a_service(start: Start, cluster: Cluster, plane: Plane, gguf: Path) -> None:
    worker = start()
    token = "hf_abcdefghijklmnop"
    plane.want("one", [of(gguf, arguments={"slow": 2.5, "says": "$(HOME) $PATH"})], secrets={"huggingface": token})
    found = worker.state("one", "ready", 20)
    assert plane.requests[0]["launcher"] == "kubernetes"
    assert ("one/1", "starting", "loading weights") in plane.phases
    (service,) = cluster.there("services")
    assert found["url"] == f"http://{service['spec']['clusterIP']}:8000"
    assert generate(found["url"]).status_code == 200
    until(lambda: any("small.gguf" in line["text"] for line in plane.lines), 5)
    spec = cluster.there("deployments")[0]["spec"]["template"]["spec"]
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    assert spec["securityContext"]["runAsNonRoot"]
    assert container(cluster)["image"] == IMAGE
    assert container(cluster)["resources"]["requests"]["memory"] == str(1024 + 2**30)
    told = Path(f"/proc/{pid(found['url'])}/cmdline").read_bytes().split(b"\0")
    assert any(b"$(HOME) $PATH" in word for word in told), "what a user writes is not filled in by the cluster"
    said = json.dumps(cluster.made)
    assert SERVICE_KEY not in said
    assert token not in said
    assert "IMTS_" not in said
    plane.forget("one")
    worker.gone("one", 15)
    assert not cluster.there("deployments")
    assert not cluster.there("services")
    assert not cluster.pods()


def test_an_engine_that_falls_comes_back_as_another(start: Start, cluster: Cluster, plane: Plane, gguf: Path) -> None:
    worker = start()
    plane.want("one", [of(gguf)])
    before = worker.state("one", "ready", 20)
    first = cluster.pod()
    os.kill(pid(before["url"]), signal.SIGKILL)
    until(lambda: plane.replica("one")["restarts"] == 1, 10, lambda: plane.replica("one"))
    assert "signal 9" in plane.replica("one")["message"]
    after = worker.state("one", "ready", 20)
    assert cluster.pod().name != first.name
    assert cluster.pod().body["status"]["containerStatuses"][0]["restartCount"] == 0
    assert after["startedAt"] != before["startedAt"] or after["restarts"] != before["restarts"]
    assert generate(after["url"]).status_code == 200


@pytest.mark.parametrize("restarts_at_once", [True, False])
def test_what_it_said_last_and_that_memory_ran_out_are_told(
    start: Start, cluster: Cluster, plane: Plane, gguf: Path, restarts_at_once: bool
) -> None:
    worker = start()
    cluster.node.orders.restart_seconds = 0 if restarts_at_once else 5
    plane.want("one", [of(gguf, arguments={"dies_after": 0.3, "says": "RuntimeError: the moon is full"})])
    until(
        lambda: "the moon is full" in (plane.replica("one") or {}).get("message", ""), 10, lambda: plane.replica("one")
    )
    assert plane.replica("one")["reason"] == "engine_error"
    moments = [line["at"] for line in plane.lines if "the moon is full" in line["text"]]
    assert moments
    assert len(set(moments)) == len(moments), "a line is heard once, though two logs are read for it"
    plane.want("two", [of(gguf)])
    url = worker.state("two", "ready", 20)["url"]
    plane.forget("one")
    worker.gone("one", 15)
    cluster.node.orders.next_end = ("OOMKilled", 137)
    os.kill(pid(url), signal.SIGKILL)
    until(lambda: plane.replica("two").get("reason"), 10)
    assert plane.replica("two")["reason"] == "out_of_memory"


def test_falls_in_a_row_end_as_a_crash_loop(start: Start, cluster: Cluster, plane: Plane, gguf: Path) -> None:
    worker = start()
    plane.want("one", [of(gguf, arguments={"dies_after": 0.0, "says": "RuntimeError: the moon is full"})])
    found = worker.state("one", "failed", 60)
    assert (found["reason"], found["restarts"]) == ("crash_loop", 4)
    assert "the moon is full" in found["message"]
    until(lambda: not cluster.there("deployments") and not cluster.there("services"), 5)


def test_no_room_is_told_in_the_clusters_words(start: Start, cluster: Cluster, plane: Plane, gguf: Path) -> None:
    worker = start()
    cluster.node.orders.unschedulable = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    plane.want("one", [of(gguf, gpu=2, startTimeoutSeconds=5)])
    waiting = worker.state("one", "pending", 10)
    until(lambda: plane.replica("one").get("reason") == "no_room", 10)
    waiting = plane.replica("one")
    assert "3 Insufficient nvidia.com/gpu" in waiting["message"]
    assert container(cluster)["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert {"name": "CUDA_VISIBLE_DEVICES", "value": "0,1"} in container(cluster)["env"]
    time.sleep(6)
    assert plane.replica("one")["state"] == "pending", "its time to start does not run yet"
    cluster.node.orders.unschedulable = None
    assert worker.state("one", "ready", 20)["gpus"] == ["0", "1"]


def test_a_quota_that_allows_no_pod_is_told(start: Start, cluster: Cluster, plane: Plane, gguf: Path) -> None:
    worker = start()
    cluster.node.orders.no_pod = 'pods "x" is forbidden: exceeded quota: compute'
    plane.want("one", [of(gguf)])
    until(lambda: "exceeded quota" in (plane.replica("one") or {}).get("message", ""), 15, lambda: plane.replica("one"))
    assert plane.replica("one")["state"] == "pending"
    cluster.node.orders.no_pod = None
    worker.state("one", "ready", 20)


def test_an_image_that_cannot_be_had_is_named(start: Start, cluster: Cluster, plane: Plane, gguf: Path) -> None:
    worker = start()
    cluster.node.orders.image = ("ErrImagePull", "dial tcp: i/o timeout")
    plane.want("one", [of(gguf)])
    until(lambda: "i/o timeout" in str((plane.replica("one") or {}).get("progress")), 10, lambda: plane.replica("one"))
    assert plane.replica("one")["state"] == "starting"
    cluster.node.orders.image = ("ErrImagePull", "manifest unknown")
    found = worker.state("one", "failed", 10)
    assert found["reason"] == "engine_missing"
    assert IMAGE in found["message"]
    assert "IMTS_ENGINE_IMAGE" in found["hint"]


def test_what_keeps_a_container_from_being_made_is_told(
    start: Start, cluster: Cluster, plane: Plane, gguf: Path
) -> None:
    worker = start()
    cluster.node.orders.stuck = True
    plane.want("one", [of(gguf)])
    until(cluster.pods, 10)
    about = {"name": cluster.pod().name}
    cluster.events = [
        {"involvedObject": about, "reason": "Pulled", "message": "older", "lastTimestamp": "2026-01-01T00:00:00Z"},
        {
            "involvedObject": about,
            "reason": "FailedMount",
            "message": "no nfs",
            "lastTimestamp": "2026-01-01T00:00:01Z",
        },
    ]
    until(lambda: "FailedMount: no nfs" in str((plane.replica("one") or {}).get("progress")), 15)
    assert plane.replica("one")["state"] == "starting"
    cluster.node.orders.stuck = False
    worker.state("one", "ready", 20)
    until(lambda: any("listening" in line["text"] for line in plane.lines), 10)
    plane.forget("one")
    worker.gone("one", 15)
    assert cluster.asked >= cluster.role, "the role has nothing that is not needed"


def test_an_evicted_pod_is_a_fall(start: Start, cluster: Cluster, plane: Plane, gguf: Path) -> None:
    worker = start()
    plane.want("one", [of(gguf)])
    worker.state("one", "ready", 20)
    cluster.do(lambda: cluster.node.evict(cluster.pod()))
    until(lambda: plane.replica("one")["restarts"] == 1, 10, lambda: plane.replica("one"))
    assert "taken the engine's pod away" in plane.replica("one")["message"]
    assert generate(worker.state("one", "ready", 20)["url"]).status_code == 200


def test_a_clusters_api_that_is_away_ends_nothing(start: Start, cluster: Cluster, plane: Plane, gguf: Path) -> None:
    worker = start()
    plane.want("one", [of(gguf)])
    before = worker.state("one", "ready", 20)
    serving = pid(before["url"])
    cluster.away = True
    plane.want("two", [of(gguf)])
    until(lambda: "does not answer" in str((plane.replica("two") or {}).get("progress")), 20)
    time.sleep(2)
    assert plane.replica("one")["state"] == "ready"
    assert pid(before["url"]) == serving
    cluster.away = False
    worker.state("two", "ready", 20)
    assert plane.replica("two")["restarts"] == 0
    good, cluster.token = cluster.token, "renewed"
    time.sleep(3)
    assert plane.replica("one")["state"] == "ready"
    cluster.token = good
    plane.forget("two")
    worker.gone("two", 15)


def test_a_new_version_starts_beside_the_old_one_which_then_goes(
    start: Start, cluster: Cluster, plane: Plane, gguf: Path
) -> None:
    worker = start()
    plane.want("one", [of(gguf)], servingRevision=1)
    old = worker.state("one", "ready", 20)
    plane.want("one", [of(gguf), of(gguf, 2)], servingRevision=1)
    new = worker.state("one", "ready", 20, revision=2)
    assert len(cluster.there("services")) == 2
    answers: list[int] = []
    running = threading.Thread(target=lambda: answers.append(generate(old["url"], seconds=4).status_code))
    running.start()
    time.sleep(0.3)
    plane.want("one", [of(gguf, 2)], servingRevision=2, drainSeconds=30)
    worker.gone("one", 20)
    running.join()
    assert answers == [200]
    assert pid(new["url"])
    assert len(cluster.there("deployments")) == len(cluster.there("services")) == 1


def test_what_the_role_does_not_allow_is_named(start: Start, cluster: Cluster, plane: Plane, gguf: Path) -> None:
    worker = start()
    cluster.role.discard(("create", "deployments"))
    plane.want("one", [of(gguf)])
    until(lambda: (plane.replica("one") or {}).get("message"), 10)
    said = plane.replica("one")
    assert "does not let this worker create deployments.apps" in said["message"]
    assert "docs/serving.md" in said["hint"]
    cluster.role.add(("create", "deployments"))
    worker.state("one", "ready", 20)
    cluster.role.discard(("list", "pods"))
    time.sleep(3)
    assert plane.replica("one")["state"] == "ready", "an engine that runs is not ended for it"


def test_a_model_outside_of_the_volume_is_refused(start: Start, plane: Plane, gguf: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large.gguf").write_bytes(gguf.read_bytes())
    worker = start(IMTS_MODEL_ROOTS=str(outside))
    plane.want("one", [of(outside / "large.gguf")])
    found = worker.state("one", "failed", 10)
    assert found["reason"] == "bad_model"
    assert f"outside of {worker.home}, the volume" in found["message"]
    assert "IMTS_ENGINE_CLAIM" in found["hint"]


def test_settings_that_are_missing_are_named(tmp_path: Path, cluster: Cluster, plane: Plane) -> None:
    for more, words in (
        ({}, "IMTS_ENGINE_IMAGE"),
        ({"IMTS_ENGINE_IMAGE": IMAGE, "IMTS_ENGINE_CLAIM": "home"}, "no service account"),
    ):
        with pytest.raises(AssertionError, match=words):
            Worker(plane, tmp_path / "home", IMTS_LAUNCHER="kubernetes", **more)
