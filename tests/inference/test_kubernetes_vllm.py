"""vLLM as a cluster's pod: its adapters are taken over with it by the worker that comes after."""

import shutil
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.inference import files
from tests.inference.kubernetes_api import Cluster
from tests.inference.plane import Plane, revision
from tests.inference.workers import Worker, alive, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SMOL = "builtin:smollm2-135m"


def test_an_engine_is_taken_over_with_its_adapters(
    plane: Plane, models: Path, engine_python: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(models / "builtin" / "smollm2-135m", home / "models" / "builtin" / "smollm2-135m")
    for name in ("first", "second", "third"):
        files.store(home, files.lora(tmp_path / name, 8, 576, 576, layers=30), f"models/{name}")
    cluster = Cluster(tmp_path / "account")
    settings = {
        "IMTS_LAUNCHER": "kubernetes",
        "IMTS_ENGINE_IMAGE": "registry.example/worker:1",
        "IMTS_ENGINE_CLAIM": "imts-home",
        "IMTS_ENGINE_PYTHON": engine_python,
        "IMTS_ENGINE_POD": '{"cpu": 2}',
        "IMTS_INFERENCE_CACHE_GB": "1",
        "IMTS_HUB_OFFLINE": "true",
        **cluster.environment,
    }
    worker = Worker(plane, home, **settings)
    try:
        first, second = files.registered("first", "models/first"), files.registered("second", "models/second")
        plane.want("smol", [revision(SMOL)], servingRevision=1, adapters=[first, second])
        before = worker.state("smol", "ready", 150)
        process = cluster.pod().process
        assert process is not None
        assert loaded(before["url"]) == {"first", "second"}, before["adapters"]
        worker.process.send_signal(signal.SIGTERM)
        worker.process.wait(20)
        assert alive(process.pid)
        replaced = {**files.registered("third", "models/third"), "name": "second"}
        plane.want("smol", [revision(SMOL)], servingRevision=1, adapters=[replaced])
        del plane.phases[:]
        worker = Worker(plane, home, **settings)
        until(lambda: loaded(before["url"]) == {"second"}, 30, lambda: loaded(before["url"]))
        until(lambda: roots(before["url"])["second"].endswith("third"), 10, lambda: roots(before["url"]))
        time.sleep(2)
        assert {state for _, state, _ in plane.phases} == {"ready"}
        after = plane.replica("smol")
        assert after is not None
        assert (after["url"], after["startedAt"]) == (before["url"], before["startedAt"])
        assert [(one["name"], one["state"]) for one in after["adapters"]] == [("second", "loaded")]
        assert cluster.pod().process is process
    finally:
        worker.end()
        cluster.close()


def roots(url: str) -> dict[str, str]:
    listed = httpx.get(f"{url}/v1/models", timeout=10).json()["data"]
    return {one["id"]: one["root"] for one in listed if one.get("parent")}


def loaded(url: str) -> set[str]:
    return set(roots(url))
