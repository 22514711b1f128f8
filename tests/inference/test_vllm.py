"""The real engine, one start shared by the tests of this file, which come in their order."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from imts_shared.contracts.deployments import Phase
from inference_service.engines.progress import told
from inference_service.engines.vllm import PLUGIN
from tests.inference import files
from tests.inference.plane import Plane, revision
from tests.inference.workers import Worker, alive, below, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SMOL = "builtin:smollm2-135m"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    plane = Plane()
    yield plane
    plane.close()


@pytest.fixture(scope="module")
def worker(
    plane: Plane, models: Path, engine_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    home = tmp_path_factory.mktemp("vllm")
    broken = home / "broken"
    shutil.copytree(models / "builtin" / "smollm2-135m", broken)
    with (broken / "model.safetensors").open("r+b") as file:
        file.truncate(100_000_000)
    for adapter in (
        files.lora(home / "good", 8, 576, 576, layers=30),
        files.lora(home / "foreign", 8, 64, 64),
        files.lora(home / "wide", 256, 576, 576),
    ):
        files.store(home, adapter, f"models/{adapter.name}")
    worker = Worker(
        plane,
        home,
        IMTS_MODELS_FOLDER=str(models),
        IMTS_ENGINE_PYTHON=engine_python,
        IMTS_MODEL_ROOTS=str(home),
        IMTS_INFERENCE_CACHE_GB="1",
        IMTS_HUB_OFFLINE="true",
    )
    yield worker
    worker.end()


@pytest.fixture(scope="module")
def url(worker: Worker, plane: Plane) -> str:
    plane.want("smol", [revision(SMOL)], servingRevision=1)
    found: str = worker.state("smol", "ready", 150)["url"]
    return found


def chat(url: str, content: str, model: str = "smol", **more: Any) -> dict[str, Any]:
    body = {"model": model, "max_tokens": 40, "temperature": 0, "messages": [{"role": "user", "content": content}]}
    answer = httpx.post(f"{url}/v1/chat/completions", json={**body, **more}, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["choices"][0]
    return found


def test_it_tells_how_far_it_is_and_answers(url: str, plane: Plane) -> None:
    phases = [phase for name, state, phase in plane.phases if name == "smol/1" and state == "starting"]
    assert {"installing engine", "launching engine", "loading weights"} <= set(phases)
    warming = [line for line in plane.lines if (said := told(line["text"])) and said.phase == Phase.warming]
    assert warming, "told by this line alone where it lasts less than a beat"
    assert chat(url, "What is the capital of France?")["message"]["content"] == "The capital of France is Paris."


def test_tools_and_schemas_pass_through(url: str) -> None:
    called = chat(url, "What is the weather in Paris?", tools=[WEATHER], tool_choice="required", max_tokens=100)
    assert called["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert "city" in json.loads(called["message"]["tool_calls"][0]["function"]["arguments"])
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer"}},
        "required": ["age"],
        "additionalProperties": False,
    }
    shaped = chat(
        url, "How old?", response_format={"type": "json_schema", "json_schema": {"name": "age", "schema": schema}}
    )
    assert '"age"' in shaped["message"]["content"]
    followed = chat(
        url,
        "Weather?",
        tools=[WEATHER],
        messages=[
            {"role": "user", "content": "Weather in Paris?"},
            {"role": "assistant", "content": None, "tool_calls": called["message"]["tool_calls"]},
            {"role": "tool", "tool_call_id": called["message"]["tool_calls"][0]["id"], "content": "Sunny"},
        ],
    )
    assert followed["message"]["content"]


def test_adapters_come_and_go_within_a_second(url: str, worker: Worker, plane: Plane) -> None:
    wanted = [files.registered(name, f"models/{name}") for name in ("good", "foreign", "wide")]
    plane.want("smol", [revision(SMOL)], servingRevision=1, adapters=wanted)
    reports = until(lambda: _all_tried(plane), 20, lambda: plane.replicas)
    assert (reports["good"]["state"], reports["foreign"]["state"], reports["wide"]["state"]) == (
        "loaded", "failed", "failed",
    )  # fmt: skip
    assert reports["good"]["seconds"] < 1
    assert "another base" in reports["foreign"]["message"]
    assert "max_lora_rank" in reports["wide"]["message"]
    assert chat(url, "Hello", model="good")["message"]["content"]
    assert chat(url, "Hello")["message"]["content"]
    plane.want("smol", [revision(SMOL)], servingRevision=1)
    until(lambda: not plane.replica("smol")["adapters"], 5)
    until(lambda: "good" not in httpx.get(f"{url}/v1/models").text, 5)
    assert worker.state("smol", "ready", 1)["restarts"] == 0


def _all_tried(plane: Plane) -> dict[str, Any] | None:
    reports = {one["name"]: one for one in plane.replica("smol")["adapters"]}
    return reports if len(reports) == 3 and all(one["state"] != "pending" for one in reports.values()) else None


def test_requests_to_the_base_know_nothing_of_adapters_beside_them(engine_python: str) -> None:
    done = subprocess.run(
        [engine_python, Path(__file__).with_name("lora_numbers.py")],
        env={**os.environ, "PYTHONPATH": str(PLUGIN), "VLLM_NO_USAGE_STATS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("right\n"), done.stderr


def test_wrong_arguments_are_named_before_anything_starts(url: str, worker: Worker, plane: Plane) -> None:
    assert worker.check("vllm", {"max_model_len": "2k", "enforce_eager": False, "dtype": "bfloat16"}).json()["ok"]
    notes = worker.check("vllm", {"max_model_lne": 5, "dtype": "int3", "seed": "x", "port": 1}).json()["notes"]
    said = {note["field"]: f"{note['message']} {note['hint']}" for note in notes}
    assert "max_model_len?" in said["engineArgs.max_model_lne"]
    assert "bfloat16" in said["engineArgs.dtype"]
    assert "whole number" in said["engineArgs.seed"]
    assert "platform" in said["engineArgs.port"]
    plane.want("wrong", [revision(SMOL, engineArgs={"max_model_lne": 5})])
    assert worker.state("wrong", "failed", 5)["reason"] == "bad_arguments"


def test_a_truncated_file_is_named_within_a_second(url: str, worker: Worker, plane: Plane) -> None:
    plane.want("broken", [revision(str(worker.home / "broken"))])
    found = worker.state("broken", "failed", 3)
    assert found["reason"] == "bad_model"
    assert "model.safetensors is cut short: 100000000 bytes" in found["message"]
    assert chat(url, "Hello")["message"]["content"]


def test_a_hub_id_that_cannot_be_fetched_is_told_with_a_way_out(url: str, worker: Worker, plane: Plane) -> None:
    plane.want("hub", [revision("Qwen/Qwen3-0.6B")])
    found = worker.state("hub", "failed", 20)
    assert found["reason"] == "bad_model"
    assert "stay offline" in found["message"]
    plane.forget("hub")


def test_what_only_vllm_can_refuse_is_told_in_its_words(url: str, worker: Worker, plane: Plane) -> None:
    plane.want("long", [revision(SMOL, engineArgs={"max_model_len": 900_000})])
    found = worker.state("long", "failed", 90)
    assert (found["reason"], found["restarts"]) == ("bad_arguments", 0)
    assert "8192" in found["message"]
    plane.forget("long")


def test_a_new_version_runs_beside_the_old_one(url: str, worker: Worker, plane: Plane) -> None:
    newer = revision(SMOL, 2, engineArgs={"max_model_len": 1024})
    plane.want("smol", [revision(SMOL), newer], servingRevision=1)
    new = worker.state("smol", "ready", 150, revision=2)["url"]
    assert chat(url, "Hello")["message"]["content"] == chat(new, "Hello")["message"]["content"]
    plane.want("smol", [revision(SMOL)], servingRevision=1)
    worker.gone("smol", 30, revision=2)
    assert chat(url, "Hello")["message"]["content"]


def test_an_engine_that_is_killed_comes_back_with_its_adapters(url: str, worker: Worker, plane: Plane) -> None:
    plane.want("smol", [revision(SMOL)], servingRevision=1, adapters=[files.registered("good", "models/good")])
    until(lambda: [one["state"] for one in plane.replica("smol")["adapters"]] == ["loaded"], 10)
    os.kill(_engine_core(worker), signal.SIGKILL)
    until(lambda: plane.replica("smol")["restarts"] == 1, 30, lambda: plane.replica("smol"))
    found = worker.state("smol", "ready", 150)
    assert [one["state"] for one in found["adapters"]] == ["loaded"]
    assert chat(found["url"], "Hello", model="good")["message"]["content"]


def _engine_core(worker: Worker) -> int:
    """The process that computes, below the engine's server."""
    return max((pid for pid in worker.processes() if not below(pid)), key=_memory)


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def test_nothing_is_left_when_the_worker_is_killed(url: str, worker: Worker) -> None:
    engines = worker.processes()
    assert len(engines) >= 3
    worker.process.kill()
    worker.process.wait()
    until(lambda: not any(alive(engine) for engine in engines), 10)
