"""What a job may ask for beside its stage, and what happens to one that asks for what cannot be."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from imts_shared.contracts.models import ModelInput, ModelKind
from tests.training import material
from tests.training.conftest import Place, Run


def run(place: Place, *, rows: list[dict[str, Any]] | None = None, form: str = "alpaca", **more: Any) -> Run:
    return place.run({**material.TINY, **more}, [place.dataset("data", form, rows or material.alpaca())])


def failure(run: Run) -> tuple[str, str]:
    assert run.outcome["status"] == "failed", run.outcome
    assert run.outcome.get("hint"), run.outcome
    return run.outcome["reason"], run.outcome["message"]


def test_metrics_and_evaluation(place: Place) -> None:
    found = run(place, valSize=0.25, evalSteps=3)
    first = found.of("metric")[0]
    assert {"step", "loss", "learningRate", "gradNorm", "epoch", "tokensPerSecond", "memoryBytes"} <= set(first)
    assert not any(name.startswith("train") for point in found.of("metric") for name in point)
    evaluated = [point["step"] for point in found.of("metric") if "evalLoss" in point]
    assert evaluated == [3, 6, 9]
    last = found.of("progress")[-1]
    assert (last["percent"], last["step"], last["etaSeconds"]) == (100.0, 9, 0.0)
    assert found.result["peakMemoryBytes"] > 10**8


def test_early_stopping_ends_when_nothing_gets_better(place: Place) -> None:
    found = run(place, valSize=0.25, evalSteps=1, earlyStoppingSteps=2, learningRate=5.0, epochs=10.0, maxGradNorm=0.0)
    assert found.result["steps"] < 90


@pytest.mark.parametrize(
    "more",
    [
        {"packing": True, "cutoffLength": 64},
        {"packing": True, "neatPacking": True, "cutoffLength": 64},
        {"gradientAccumulation": 3, "schedule": "cosine", "warmupRatio": 0.1, "optimizer": "adafactor"},
        {"loraRank": 4, "loraAlpha": 4, "loraDropout": 0.1, "loraTargets": ["q_proj", "v_proj"]},
        {"advanced": {"use_dora": True}},
        {"advanced": {"use_rslora": True, "neftune_noise_alpha": 5.0}},
        {"precision": "bf16", "weightDecay": 0.1, "maxGradNorm": 0.5, "warmupSteps": 2},
        {"gradientCheckpointing": False, "maxSteps": 4},
    ],
    ids="-".join,
)
def test_what_people_use_is_taken(place: Place, more: dict[str, Any]) -> None:
    found = run(place, **more)
    assert found.result["steps"] >= 1
    assert found.losses


def test_the_named_rank_and_targets_are_the_adapters(place: Place) -> None:
    found = run(place, loraRank=4, loraTargets=["q_proj"], maxSteps=2)
    config = json.loads(place.files(found.result["models"][0]["prefix"])["adapter_config.json"].read_text())
    assert (config["r"], config["target_modules"]) == (4, ["q_proj"])
    assert config["base_model_name_or_path"] == "builtin:tiny-qwen3"


def test_several_data_sets_with_weights(place: Place) -> None:
    many = place.dataset("many", "alpaca", material.alpaca(40))
    few = place.dataset("few", "messages", material.calls(8))
    uses = [
        {"id": "many", "name": "many", "version": 1, "use": "train", "weight": 1.0},
        {"id": "few", "name": "few", "version": 1, "use": "train", "weight": 3.0},
    ]
    found = place.run({**material.TINY, "datasets": uses, "maxSteps": 3}, [many, few])
    assert found.result["steps"] == 3
    even = place.run({**material.TINY, "datasets": [{**use, "weight": 1.0} for use in uses]}, [many, few])
    assert even.result["steps"] == 24


@pytest.mark.parametrize("form", ["messages", "sharegpt"])
def test_conversations_with_tools(place: Place, form: str) -> None:
    rows = material.calls()
    if form == "sharegpt":
        rows = [
            {
                "conversations": [
                    {"from": "human", "value": row["messages"][0]["content"]},
                    {
                        "from": "function_call",
                        "value": json.dumps({"name": "set_light", "arguments": {"room": "a", "colour": "red"}}),
                    },
                ],
                "tools": json.dumps(row["tools"]),
            }
            for row in rows
        ]
    found = run(place, rows=rows, form=form, cutoffLength=512, maxSteps=3)
    shown = "\n".join(found.lines)
    assert "<tool_call>" in shown
    assert "set_light" in shown


def test_a_loss_that_runs_away_is_named(place: Place) -> None:
    reason, message = failure(
        run(place, finetuningType="full", learningRate=1e9, maxGradNorm=0.0, schedule="constant", epochs=5.0)
    )
    assert reason == "diverged"
    assert "at step" in message


@pytest.mark.parametrize(
    ("more", "reason", "words"),
    [
        ({"modelName": "builtin:nothing"}, "bad_config", "builtin:nothing"),
        ({"modelName": "/nowhere/model"}, "bad_config", "/nowhere/model"),
        ({"modelName": "org/model"}, "bad_config", "not on this machine"),
        ({"template": "nothing"}, "bad_config", "nothing"),
        ({"loraTargets": ["no_such_module"]}, "bad_config", "no_such_module"),
        ({"advanced": {"lora_rnk": 3}}, "bad_config", "lora_rnk"),
        ({"stage": "dpo"}, "bad_config", "alpaca"),
        ({"optimizer": "no_such_optimizer"}, "bad_config", "no_such_optimizer"),
        ({"advanced": {"use_galore": True}}, "bad_config", "GaLore"),
        ({"advanced": {"ref_model": "/etc", "trust_remote_code": True}}, "bad_config", "ref_model"),
        ({"advanced": {"adapter_name_or_path": "/etc"}}, "bad_config", "adapter_name_or_path"),
        ({"advanced": {"fsdp_config": "/etc/passwd"}}, "bad_config", "fsdp_config"),
        ({"template": "llama3"}, "bad_config", "token that the model does not know"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_mistake_is_named(place: Place, more: dict[str, Any], reason: str, words: str) -> None:
    found = place.run(
        {**material.TINY, **more},
        [place.dataset("data", "alpaca", material.alpaca())],
        options={"hubMirror": "http://127.0.0.1:9"},
    )
    assert failure(found)[0] == reason
    assert words in failure(found)[1]


def test_rows_that_cannot_be_read_are_named(place: Place) -> None:
    rows = [*material.alpaca(3), {"instruction": "What?", "output": None}]
    reason, message = failure(run(place, rows=[*rows, {"messages": [{"role": "nobody", "content": ""}]}]))
    assert reason == "bad_data"
    assert "Row 5" in message


def test_a_truncated_model_is_named(place: Place, models: Any) -> None:
    broken = place.folder / "roots" / "broken"
    shutil.copytree(models / "builtin" / "tiny-qwen3", broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    found = place.run(
        {**material.TINY, "modelName": str(broken)},
        [place.dataset("data", "alpaca", material.alpaca())],
        options={"modelRoots": str(place.folder / "roots")},
    )
    assert failure(found)[0] == "bad_config"


def test_rows_are_loaded_beside(place: Place) -> None:
    found = run(place, advanced={"dataloader_num_workers": 2}, maxSteps=3)
    assert found.result["steps"] == 3


def test_a_pickle_beside_other_safetensors_is_not_read(place: Place, models: Any) -> None:
    odd = place.folder / "roots" / "odd"
    shutil.copytree(models / "builtin" / "tiny-qwen3", odd)
    (odd / "model.safetensors").rename(odd / "zz.safetensors")
    (odd / "pytorch_model.bin").write_bytes(b"a pickle")
    found = place.run(
        {**material.TINY, "modelName": str(odd)},
        [place.dataset("data", "alpaca", material.alpaca())],
        options={"modelRoots": str(place.folder / "roots")},
    )
    assert failure(found)[0] == "bad_config"
    assert "only pytorch_model.bin" in failure(found)[1]


def _with_code(folder: Path, models: Path) -> Path:
    """A model whose own code leaves a file when it runs."""
    shutil.copytree(models / "builtin" / "tiny-qwen3", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    ran = folder.parent / "ran"
    (folder / "configuration_own.py").write_text(
        f"from pathlib import Path\nfrom transformers import Qwen3Config\nPath({str(ran)!r}).touch()\n"
        "class OwnConfig(Qwen3Config):\n    model_type = 'own'\n"
    )
    return ran


@pytest.mark.parametrize("field", ["modelName", "refModel"])
def test_a_models_code_runs_only_where_an_admin_allowed_it(place: Place, models: Path, field: str) -> None:
    """Though the request says so, and nothing checked it when it was submitted."""
    roots = place.folder / "roots"
    ran = _with_code(roots / "own", models)
    plain = ModelInput(
        named="plain", id="1", name="plain", version=1, kind=ModelKind.base, source="builtin:tiny-qwen3",
        trust_remote_code=True,
    )  # fmt: skip
    spec = {**material.TINY, "stage": "dpo", "modelName": "plain", "trustRemoteCode": True, field: str(roots / "own")}
    data = [place.dataset("data", "preference", material.preferences())]
    found = place.run(spec, data, models=[plain], options={"modelRoots": str(roots)})
    assert failure(found)[0] == "bad_config"
    assert not ran.exists()


def test_out_of_memory_is_named(place: Place) -> None:
    """A limit on the process's memory stands in for a machine that has no more."""
    found = place.run(
        {**material.TINY, "finetuningType": "full", "batchSize": 16, "cutoffLength": 4096},
        [place.dataset("data", "alpaca", material.long_rows())],
        memory_limit=6 * 2**30,
    )
    reason, _ = failure(found)
    assert reason == "out_of_memory"
    assert "batchSize" in found.outcome["hint"]


def test_a_reference_of_its_own(place: Place) -> None:
    """Against itself a model starts at the loss of a coin; against another it does not."""
    rows, more = material.preferences(), {"stage": "dpo", "form": "preference", "maxSteps": 1}
    itself = run(place, rows=rows, **more)
    other = run(place, rows=rows, **more, refModel="builtin:smollm2-135m")
    assert itself.losses[1] == pytest.approx(0.6931, abs=1e-3)
    assert abs(other.losses[1] - 0.6931) > 0.01
