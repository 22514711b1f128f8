"""Objects, pod states and line endings of the launcher `kubernetes`, without a cluster."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from imts_shared.contracts.deployments import DeploymentReason
from inference_service.engines import vllm
from inference_service.engines.arguments import Options
from inference_service.engines.starting import Model, Place, Start
from inference_service.keys import Key
from inference_service.launch.kubernetes import objects, pods
from inference_service.launch.kubernetes.objects import About, Engine, Site
from inference_service.launch.launcher import Ended
from inference_service.settings import EnginePod
from inference_service.trouble import CannotServe
from tests.inference.kubernetes_node import expanded

KEY = Key("0c1b7a52-3f8e-4a53-9d8a-2f0e3b6a9c11", 12, 3)
POD = EnginePod.model_validate(
    {"cpu": 4, "gpuResource": "amd.com/gpu", "nodeSelector": {"disk": "fast"}, "runtimeClassName": "nvidia",
     "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}], "imagePullSecrets": ["registry"]}
)  # fmt: skip
SITE = Site("serving", "imts", "registry.example/worker:1", "imts-home", Path("/var/lib/imts"), POD)


def engine(start: Start, gpus: list[str], folder: Path = Path("/var/lib/imts/engines")) -> Engine:
    place = Place(name="My model_v1.0", port=8000, folder=folder, host=objects.POD_IP, gpus=gpus)
    return Engine(SITE, KEY, start, place, 5 * 2**30, About(place.name, 64, 2), "0123456789abcdef")


def valid(body: dict[str, Any]) -> None:
    kubernetes_validate.validate(body, str(kubernetes_validate.latest_version()), strict=True)


def test_an_engine_over_two_gpus(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["L"]}')
    place = Place(name="m", port=8000, folder=tmp_path, host=objects.POD_IP, gpus=["0", "1"])
    flag = {"flag": "--tensor-parallel-size", "names": ["tensor_parallel_size"], "type": "int"}
    options = Options({"tensor_parallel_size": flag}, "0")
    start = vllm.start(Path("/opt/engine/bin/python"), options, Model(tmp_path), place, {}, None)
    made = engine(start, place.gpus)
    body = objects.deployment(made)
    valid(body)
    valid(objects.service(made))
    pod = body["spec"]["template"]["spec"]
    container = pod["containers"][0]
    command = container["command"]
    assert "--tensor-parallel-size=2" in command
    assert command[command.index("--host") + 1] == "$(POD_IP)"
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": str(5 * 2**30)},
        "limits": {"amd.com/gpu": "2"},
    }
    assert (pod["runtimeClassName"], pod["imagePullSecrets"]) == ("nvidia", [{"name": "registry"}])
    told = {one["name"] for one in container["env"]}
    assert {"HF_HUB_OFFLINE", "POD_IP", "HOME"} <= told
    assert "PATH" not in told, "nothing of the worker's own environment"


def test_names_are_ones_of_dns_and_unlike() -> None:
    keys = [KEY, replace(KEY, number=4), replace(KEY, revision=13), replace(KEY, deployment_id="other")]
    names = {objects.name_of(of, key, named) for of in ("imts", "b") for key in keys for named in ("M_1", "é" * 200)}
    assert len(names) == 16
    assert all(len(name) <= 63 and name[0].isalpha() and name[-1].isalnum() for name in names)
    assert objects.name_of("imts", KEY, "My model_v1.0") != objects.name_of("imts", KEY, "")


def test_two_that_run_alike_are_told_from_two_that_do_not() -> None:
    one = engine(Start(["a", "b"], {}), [])
    assert replace(one, launch="another").spec == one.spec
    assert replace(one, about=About(one.about.named, 64, 7)).spec == one.spec
    assert replace(one, start=Start(["a", "c"], {})).spec != one.spec
    assert replace(one, site=replace(SITE, image="worker:2")).spec != one.spec
    assert objects.key_of(objects.deployment(one)) == KEY
    assert objects.about_of(objects.deployment(one)) == one.about
    assert objects.key_of({"metadata": {"labels": {objects.DEPLOYMENT: "x", objects.REVISION: "one"}}}) is None


@pytest.mark.parametrize("word", ["$(HOME)", "$$", "a$b", "$", '{"a": "$(X)$$"}', "plain"])
def test_words_pass_as_they_are(word: str) -> None:
    made = objects.deployment(engine(Start([word], {}), []))
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert expanded(container["command"][0], {"HOME": "/x", "X": "y"}) == word


def test_an_address() -> None:
    def at(ip: str | None) -> str | None:
        return objects.address({"spec": {"clusterIP": ip, "ports": [{"port": 8000}]}})

    assert at("10.0.0.7") == "http://10.0.0.7:8000"
    assert at("fd00::7") == "http://[fd00::7]:8000"
    assert at(None) is None


def pod(state: dict[str, Any] | None = None, restarts: int = 0, **more: Any) -> dict[str, Any]:
    own = {"name": "engine", "image": "i", "restartCount": restarts, "state": state or {}, **more.pop("container", {})}
    beside = {"name": "mesh", "image": "m", "restartCount": 7, "state": {"running": {}}}
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": [beside, *([own] if state else [])], **more}}


def ended(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (pod(), pods.Placed()),
        (pod({"running": {}}), pods.Placed(runs=True)),
        (pod({"waiting": {"reason": "ContainerCreating"}}), pods.Placed()),
        (pod(ended(1)), pods.Fallen(Ended(1))),
        (pod(ended(137)), pods.Fallen(Ended(-9))),
        (pod(ended(137, "OOMKilled")), pods.Fallen(Ended(-9, killed_for_memory=True))),
        (pod(ended(0, "Completed", message="bye")), pods.Fallen(Ended(0), "bye")),
        (pod({"running": {}}, 1, container={"lastState": ended(2)}), pods.Fallen(Ended(2))),
        (
            pod({"waiting": {"reason": "CrashLoopBackOff"}}, 3, container={"lastState": ended(255)}),
            pods.Fallen(Ended(255)),
        ),
        (
            pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}]),
            pods.Unplaced("0/3"),
        ),
    ],
)
def test_what_a_pod_says(seen: dict[str, Any], expected: object) -> None:
    assert pods.judged(seen) == expected


def test_what_happened_before_it_was_taken_over_is_no_fall() -> None:
    seen = pod({"running": {}}, 2, container={"lastState": ended(1)})
    assert pods.judged(seen, restarts_before=pods.restarts_of(seen)) == pods.Placed(runs=True)


@pytest.mark.parametrize(
    ("seen", "reason", "words"),
    [
        (pod({"waiting": {"reason": "InvalidImageName", "message": "m"}}), "engine_missing", "InvalidImageName"),
        (pod({"waiting": {"reason": "ErrImagePull", "message": "Not Found"}}), "engine_missing", "IMTS_ENGINE_IMAGE"),
        (pod({"waiting": {"reason": "CreateContainerConfigError", "message": "no user"}}), "engine_error", "no user"),
        (pod(ended(128, "StartError", message="exec: no such file")), "engine_missing", "exec: no such file"),
        (pod(phase="Failed", reason="Evicted", message="disk pressure"), "engine_error", "disk pressure"),
        (pod(ended(137), phase="Failed", reason="Evicted", message="memory low"), "engine_error", "memory low"),
    ],
)
def test_what_no_waiting_mends(seen: dict[str, Any], reason: str, words: str) -> None:
    with pytest.raises(CannotServe) as caught:
        pods.judged(seen)
    assert caught.value.reason == DeploymentReason(reason)
    assert words in f"{caught.value.message} {caught.value.hint}"
