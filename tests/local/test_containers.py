"""The Dockerfiles and docker-compose.yml: no container engine runs here, so what can be read of them is checked."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from imts_cli import bootstrap

ROOT = Path(__file__).parent.parent.parent
DOCKERFILES = sorted(ROOT.glob("*/Dockerfile"))
SERVICES = (
    "api", "watcher", "analyzer", "analyzer-worker", "training", "training-worker", "gateway", "inference-worker",
)  # fmt: skip


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_a_dockerfile_is_clean_and_copies_what_is_there(file: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    text = file.read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        *sources, _target = line.split()
        assert [source for source in sources if not (ROOT / source).exists()] == []
        assert set(sources) <= sent, "what .dockerignore holds back cannot be copied"


def test_the_training_image_holds_what_the_environment_of_training_does() -> None:
    text = (ROOT / "training-service" / "Dockerfile").read_text()
    assert f"ARG TORCH={bootstrap.TORCH}\n" in text
    assert "ARG TORCH_INDEX=" in text
    assert f"--target /opt/imts/{bootstrap.GGUF_TOOLS} -r {bootstrap.GGUF_TOOLS}.txt" in text
    for package in bootstrap.TRAINING_PACKAGES:
        assert f"COPY {package} ./{package}\n" in text


def test_services_are_built_find_each_other_and_hold_no_secret(compose: dict[str, Any]) -> None:
    services, volumes = compose["services"], set(compose["volumes"])
    assert set(SERVICES) <= set(services)
    for name, service in services.items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= volumes, name
        for setting, value in service.get("environment", {}).items():
            if "KEY" in setting or "PASSWORD" in setting:
                assert value == "" or re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), f"{name}: {setting}"
    for name in ("api", "watcher"):
        assert services[name]["environment"]["IMTS_TRAINING_URL"] == "http://training:8001"
        assert services[name]["environment"]["IMTS_ANALYZER_URL"] == "http://analyzer:8002"
    for name in ("training", "training-worker"):
        models = services[name]["environment"]["IMTS_MODELS_FOLDER"]
        assert f"models:{models}" in services[name]["volumes"]
        assert models in services["storage-owner"]["entrypoint"]
        assert not services[name]["environment"]["IMTS_DATABASE_URL"]
    assert services["training-worker"]["environment"]["HEALTH_PORT"] == "8011"
    assert services["inference-worker"]["environment"]["IMTS_ENGINE_ADDRESS"] == "inference-worker"
    assert {services[name]["build"]["target"] for name in ("gateway", "inference-worker")} == {"gateway", "worker"}
    assert (services["training"]["command"], services["training-worker"]["command"]) == (["api"], ["worker"])
