"""Models are made whole or turned into GGUF, and what comes out is used before it is believed."""

import hashlib
import json
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imts_shared.contracts.jobs import JobKind
from imts_shared.contracts.models import ModelInput, ModelKind
from tests.training import material
from tests.training.conftest import Place, Run
from tests.training.using import apart

BASE = "builtin:tiny-qwen3"


def export(place: Place, spec: dict[str, Any], models: list[ModelInput] | None = None, **more: Any) -> Run:
    return place.run(spec, [], kind=JobKind.export, models=models, **more)


def registered(model: dict[str, Any], kind: ModelKind, name: str = "colours", **more: Any) -> ModelInput:
    return ModelInput(
        named=name, id=name, name=name, version=1, kind=kind, prefix=model["prefix"], sha256=model["sha256"],
        template=model["template"], **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, models: Path) -> tuple[Path, dict[str, Any]]:
    place = Place(tmp_path_factory.mktemp("trained"), models)
    spec = {**material.TINY, "epochs": 3.0, "learningRate": 3e-2, "loraRank": 16}
    [model] = place.run(spec, [place.dataset("data", "alpaca", material.alpaca())]).result["models"]
    return place.storage / model["prefix"], model


@pytest.fixture
def adapter(place: Place, trained: tuple[Path, dict[str, Any]]) -> ModelInput:
    folder, model = trained
    shutil.copytree(folder, place.storage / "models" / "colours")
    return registered({**model, "prefix": "models/colours"}, ModelKind.adapter, base_name=BASE)


def test_an_adapter_is_merged_into_its_base(place: Place, adapter: ModelInput) -> None:
    run = export(place, {"modelName": "colours", "outputName": "colours-whole"}, [adapter])
    result = run.result
    [model] = result["models"]
    assert (model["kind"], model["name"], model["baseModel"]) == ("merged", "colours-whole", "colours")
    files = place.files(model["prefix"])
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"} <= set(files)
    assert "chat_template.jinja" in files or "chat_template" in files["tokenizer_config.json"].read_text()
    folder = files["config.json"].parent
    assert (model["files"], model["bytes"]) == (
        len(files) - 1, sum(path.stat().st_size for name, path in files.items() if name != "manifest.json"),
    )  # fmt: skip
    assert model["details"]["architecture"] == "Qwen3ForCausalLM"
    assert model["details"]["contextLength"] == 4096
    assert model["details"]["parameters"] > 3_000_000
    merge = result["verified"]["merge"]
    assert (merge["adapters"], merge["kl"] <= merge["tolerance"]) == (1, True)
    assert merge["klFromBase"] > 0.02
    assert result["verified"]["kl"] <= result["verified"]["tolerance"]
    assert "colours version 1 (adapter) < builtin:tiny-qwen3" in files["README.md"].read_text()

    base, prefix = place.models / "builtin" / "tiny-qwen3", place.storage / str(adapter.prefix)
    assert apart("difference", base, prefix, folder, "What colour is the lamp?") < 1e-4

    steps = [event["step"] for event in run.of("progress")]
    assert steps == sorted(steps)
    assert run.of("progress")[-1]["percent"] == 100
    assert any("Merging adapter 1 of 1" in event["text"] for event in run.of("message"))


def test_adapters_on_adapters_are_merged_from_the_lowest(place: Place, adapter: ModelInput) -> None:
    spec = {**material.TINY, "modelName": "colours", "learningRate": 5e-3}
    data = place.dataset("more", "alpaca", material.alpaca())
    [upper] = place.run(spec, [data], models=[adapter]).result["models"]
    top = registered(upper, ModelKind.adapter, "top", base=adapter)
    verified = export(place, {"modelName": "top"}, [top]).result["verified"]
    assert verified["merge"]["adapters"] == 2
    assert verified["kl"] <= verified["tolerance"]


def test_a_merged_model_is_written_again_in_shards_of_another_type(place: Place) -> None:
    run = export(place, {"modelName": BASE, "dtype": "bf16", "maxShardGb": 0.01})
    [model] = run.result["models"]
    assert model["details"]["dtype"] == "bf16"
    again = export(
        place, {"modelName": "half", "dtype": "fp32"}, [registered(model, ModelKind.merged, "half")]
    ).result  # fmt: skip
    assert again["models"][0]["details"]["dtype"] == "fp32"
    assert again["models"][0]["bytes"] > 1.5 * model["bytes"] - 5_000_000


@pytest.mark.parametrize("quantization", ["f16", "Q8_0"])
def test_an_adapter_becomes_gguf(place: Place, adapter: ModelInput, quantization: str) -> None:
    from gguf import GGUFReader

    run = export(place, {"modelName": "colours", "format": "gguf", "quantization": quantization}, [adapter])
    [model] = run.result["models"]
    assert model["kind"] == "gguf"
    assert model["details"]["quantization"] == quantization.lower()
    files = place.files(model["prefix"])
    file = files[f"colours-{quantization.lower()}.gguf"]
    assert set(files) == {file.name, "README.md", "manifest.json"}
    fields = GGUFReader(str(file)).fields
    assert fields["general.architecture"].contents() == "qwen3"
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert "<|im_start|>" in fields["tokenizer.chat_template"].contents()
    verified = run.result["verified"]
    assert verified["kl"] <= verified["tolerance"]
    assert verified["weights"]["compared"] == verified["weights"]["tensors"] == 24
    assert verified["merge"]["klFromBase"] > 0.02


def test_the_gguf_of_the_small_model_knows_a_capital(place: Place) -> None:
    run = export(place, {"modelName": "builtin:smollm2-135m", "format": "gguf", "outputName": "smol"})
    verified = run.result["verified"]
    assert verified["answer"].startswith("The capital of France is Paris")
    assert verified["weights"]["compared"] == verified["weights"]["tensors"] == 272
    [model] = run.result["models"]
    file = place.files(model["prefix"])["smol-q8_0.gguf"]
    assert 140_000_000 < file.stat().st_size < 150_000_000
    said = apart("answer", place.models / "builtin" / "smollm2-135m", file, verified["prompt"])
    assert said.startswith("The capital of France is Paris")


def refused(run: Run, *words: str) -> None:
    assert run.outcome["status"] == "failed", run.outcome
    assert run.outcome["reason"] == "bad_config", run.outcome
    told = f"{run.outcome['message']} {run.outcome['hint']}"
    for word in words:
        assert word in told


GGUF = {"sha256": "0", "template": None, "prefix": "jobs/x/model"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"modelName": BASE, "format": "gguf", "quantization": "q9_9"}, ["quantization"]),
        ({"modelName": BASE, "format": "onnx"}, ["format"]),
        ({"modelName": BASE, "quantization": "q8_0"}, ["quantization goes with format gguf"]),
        ({"modelName": BASE, "format": "gguf", "dtype": "bf16"}, ["dtype goes with format merged"]),
        ({"modelName": BASE, "prompt": "red " * 900 + "lamp", "answerTokens": 256}, []),
        ({"modelName": "file", "format": "gguf"}, ["is GGUF"]),
        ({"modelName": "orphan"}, ["does not say what it stands on"]),
        ({"modelName": "lost"}, ["There is no 'builtin:gone'"]),
        ({}, ["modelName"]),
    ],
)
def test_what_cannot_be_is_refused_in_words(place: Place, spec: dict[str, Any], words: list[str]) -> None:
    models = [
        registered(GGUF, ModelKind.gguf, "file"),
        registered(GGUF, ModelKind.adapter, "orphan"),
        registered(GGUF, ModelKind.adapter, "lost", base_name="builtin:gone"),
    ]
    (place.storage / "jobs/x/model").mkdir(parents=True)
    run = export(place, spec, models)
    if words:
        refused(run, *words)
    else:
        assert run.result["verified"]["answerTokens"] > 0


def test_a_reward_model_is_refused(place: Place) -> None:
    data = place.dataset("data", "preference", material.preferences())
    [model] = place.run({**material.TINY, "stage": "rm"}, [data]).result["models"]
    refused(export(place, {"modelName": "judge"}, [registered(model, ModelKind.adapter, "judge", base_name=BASE)]),
            "is a reward model")  # fmt: skip


def test_a_damaged_adapter_registers_nothing(place: Place, adapter: ModelInput) -> None:
    from safetensors.numpy import load_file, save_file

    file = place.storage / str(adapter.prefix) / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: np.full_like(values, np.nan) for name, values in weights.items()}, file)
    changed = export(place, {"modelName": "colours"}, [adapter])
    assert "adapter_model.safetensors has changed" in changed.outcome["message"]
    manifest = file.with_name("manifest.json")
    told = json.loads(manifest.read_text())
    told["files"][file.name]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(told))
    run = export(place, {"modelName": "colours"}, [adapter])
    assert run.outcome["status"] == "failed"
    assert not place.files("jobs/job/2/model")


def test_a_full_disk_is_told_before_anything_is_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("U", "total used free")(9, 8, 1_000_000))
    run = export(place, {"modelName": BASE, "format": "gguf"})
    assert (run.outcome["status"], run.outcome["reason"]) == ("failed", "out_of_disk")
    assert "needs about" in run.outcome["message"]
    assert [path.name for path in (place.folder / "scratch-1").iterdir()] == ["log"]


def test_an_order_to_stop_ends_it_between_steps(place: Place, adapter: ModelInput) -> None:
    def stop(event: dict[str, Any], order: Any) -> None:
        if "Converting" in str(event["data"].get("text")):
            order()

    run = export(place, {"modelName": "colours", "format": "gguf"}, [adapter], watch=stop)
    assert run.outcome["status"] == "stopped"
    assert not place.files("jobs/job/2/model")


def test_without_the_tools_the_words_say_what_to_install(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from training_service.export import children

    nowhere = place.folder / "nowhere"
    monkeypatch.setenv("PATH", str(nowhere))
    monkeypatch.setattr(children, "tools", lambda: nowhere)
    refused(export(place, {"modelName": BASE, "format": "gguf"}), "not installed", "locks/gguf-tools.txt")
    nowhere.mkdir()
    (nowhere / "convert_hf_to_gguf.py").touch()
    run = export(place, {"modelName": BASE, "format": "gguf", "quantization": "q4_k_m"})
    refused(run, "llama-cpp-python", "llama-quantize")


QUANTIZER = """#!{python}
import shutil, sys
from gguf import GGUFReader
source, target, kind = sys.argv[1:]
shutil.copy(source, target)
types = dict(Q4_K_M=15, Q6_K=1)
GGUFReader(target, "r+").fields["general.file_type"].parts[-1][0] = types[kind]
"""


def test_k_quants_are_made_by_a_program_on_the_path(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program here copies, and tells the right type or a wrong one."""
    program = place.folder / "bin" / "llama-quantize"
    program.parent.mkdir()
    program.write_text(QUANTIZER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    run = export(place, {"modelName": BASE, "format": "gguf", "quantization": "Q4_K_M"})
    [model] = run.result["models"]
    assert model["details"]["quantization"] == "q4_k_m"
    assert "tiny-qwen3-q4_k_m.gguf" in place.files(model["prefix"])
    wrong = export(place, {"modelName": BASE, "format": "gguf", "quantization": "q6_k"})
    assert "The file is mostly_f16, not q6_k" in wrong.outcome["message"]
    failing = export(place, {"modelName": BASE, "format": "gguf", "quantization": "q2_k"})
    assert "Quantizing to q2_k failed: KeyError: 'Q2_K'" in failing.outcome["message"]
    assert not place.files("jobs/job/2/model")


@pytest.mark.parametrize("name", ["smollm2-135m", "tiny-qwen3"])
def test_without_llama_cpp_transformers_loads_the_file(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from training_service.export import verify

    monkeypatch.setattr(verify, "has_llama_cpp", lambda: False)
    verified = export(place, {"modelName": f"builtin:{name}", "format": "gguf"}).result["verified"]
    assert verified["by"] == "transformers"
    assert verified["kl"] <= verified["tolerance"]
    json.dumps(verified)
