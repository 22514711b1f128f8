"""Every stage and every fine-tuning type really trains, and leaves a model that loads."""

from typing import Any

import pytest

from tests.training import material
from tests.training.conftest import Place

MATERIAL: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "pt": ("text", material.texts()),
    "sft": ("alpaca", material.alpaca()),
    "rm": ("preference", material.preferences()),
    "dpo": ("preference", material.preferences()),
    "simpo": ("preference", material.preferences()),
    "orpo": ("preference", material.preferences()),
    "kto": ("kto", material.feedback()),
}


@pytest.mark.parametrize("stage", MATERIAL)
def test_a_stage_trains(place: Place, stage: str) -> None:
    form, rows = MATERIAL[stage]
    run = place.run({**material.TINY, "stage": stage, "epochs": 2.0}, [place.dataset("data", form, rows)])
    steps = run.result["steps"]
    assert steps > 2
    assert sorted(run.losses) == list(range(1, steps + 1))
    assert len(run.of("metric")) >= steps
    if stage not in ("kto", "simpo"):
        first, last = (sum(run.losses[s] for s in part) / 3 for part in ((1, 2, 3), (steps - 2, steps - 1, steps)))
        assert last < first
    [model] = run.result["models"]
    assert model["kind"] == "adapter"
    files = place.files(model["prefix"])
    assert {"adapter_model.safetensors", "adapter_config.json", "manifest.json", "README.md"} <= set(files)
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in files)


@pytest.mark.parametrize("how", ["qlora", "full", "freeze", "oft"])
def test_a_fine_tuning_type_trains(place: Place, how: str) -> None:
    more = {"precision": "bf16"} if how == "freeze" else {}
    spec = {**material.TINY, "finetuningType": how, "epochs": 2.0, "learningRate": 2e-3, **more}
    run = place.run(spec, [place.dataset("data", "alpaca", material.alpaca())])
    steps = run.result["steps"]
    assert sorted(run.losses) == list(range(1, steps + 1))
    assert run.losses[steps] < run.losses[1]
    [model] = run.result["models"]
    assert model["kind"] == ("adapter" if how in ("qlora", "oft") else "merged")
