import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.inference.kubernetes_api import Cluster
from tests.inference.plane import Plane
from tests.inference.workers import ROOT, Worker

STAND_IN = Path(__file__).with_name("stand_in.py")
IMAGE = "registry.example/imts/inference-worker:1"
Start = Callable[..., Worker]
GGUF = b"GGUF" + b"\0" * 1020


@pytest.fixture
def plane() -> Iterator[Plane]:
    plane = Plane()
    yield plane
    plane.close()


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    file = tmp_path / "home" / "models" / "small.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(GGUF)
    return file


@pytest.fixture
def worker(plane: Plane, tmp_path: Path, gguf: Path) -> Iterator[Worker]:
    """Its llama.cpp is a stand-in; all else is real."""
    worker = Worker(
        plane,
        tmp_path / "home",
        IMTS_LLAMA_SERVER=str(STAND_IN),
        IMTS_MODEL_ROOTS=str(gguf.parent),
        IMTS_INFERENCE_MEMORY_GB="2.5",
    )
    yield worker
    worker.end()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "account")
    yield cluster
    cluster.close()


@pytest.fixture
def start(plane: Plane, cluster: Cluster, tmp_path: Path, gguf: Path) -> Iterator[Start]:
    """Starts a worker of the cluster; the next one is the same release's."""
    started: list[Worker] = []

    def another(**more: str) -> Worker:
        worker = Worker(
            plane,
            tmp_path / "home",
            **{
                "IMTS_LAUNCHER": "kubernetes",
                "IMTS_ENGINE_IMAGE": IMAGE,
                "IMTS_ENGINE_CLAIM": "imts-home",
                "IMTS_LLAMA_SERVER": str(STAND_IN),
                "IMTS_MODEL_ROOTS": str(gguf.parent),
                **cluster.environment,
                **more,
            },
        )
        started.append(worker)
        return worker

    yield another
    for worker in started:
        worker.end()


@pytest.fixture(scope="session")
def engine_python() -> str:
    found = os.environ.get("IMTS_TEST_ENGINE_PYTHON")
    if not found:
        pytest.skip("IMTS_TEST_ENGINE_PYTHON names no environment with vLLM")
    return found


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the built-in models, made in the training environment if they are not there."""
    named = os.environ.get("IMTS_TEST_MODELS")
    folder = Path(named) if named else tmp_path_factory.mktemp("models")
    python = os.environ.get("IMTS_TEST_TRAINING_PYTHON")
    for name in ("smollm2-135m", "tiny-qwen3"):
        if not (folder / "builtin" / name / "made.json").is_file():
            if not python:
                pytest.skip("neither IMTS_TEST_MODELS nor IMTS_TEST_TRAINING_PYTHON is set")
            subprocess.run(
                [python, "-m", "training_service.models.making", folder, name],
                check=True,
                env={**os.environ, "PYTHONPATH": f"{ROOT}/shared:{ROOT}/training-service"},
            )
    return folder
