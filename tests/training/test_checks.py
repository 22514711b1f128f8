"""What a request is told before it runs."""

from pathlib import Path
from typing import Any

import pytest

from imts_shared.contracts.internal import DatasetInput
from imts_shared.contracts.models import ModelInput, ModelKind
from imts_shared.contracts.problems import FieldNote
from imts_shared.contracts.training import TrainingRequest
from training_service import architecture, checks, estimate
from training_service.settings import TrainingSettings

CPU = estimate.Device("cpu", 24 * 2**30, False, 2)
GPU = estimate.Device("a GPU", 80 * 2**30, True)
DATA = DatasetInput(
    id="d", name="d", version=1, sha256="0", format="alpaca", file_type="jsonl", key="d", rows=20, bytes=2_000
)
SMALL = "builtin:smollm2-135m"


def adapter_of(base: str) -> ModelInput:
    return ModelInput(named="own", id="1", name="own", version=1, kind=ModelKind.adapter, prefix="m", base_name=base)


def notes(
    tmp_path: Path, more: dict[str, Any], device: estimate.Device = CPU, models: list[ModelInput] | None = None
) -> list[FieldNote]:
    asked = {"modelName": "builtin:tiny-qwen3", "dataset": "d", **more}
    spec = TrainingRequest.model_validate(asked).model_dump(mode="json", by_alias=True, exclude_none=True)
    return checks.check({**spec, "datasets": []}, [DATA], models or [], device, tmp_path).notes


@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        ({"advanced": {"lora_rank": 4}}, "advanced.lora_rank", "Say it as `loraRank`"),
        ({"advanced": {"model_name_or_path": "/etc"}}, "advanced.model_name_or_path", "Say it as `modelName`"),
        ({"advanced": {"trust_remote_code": True}}, "advanced.trust_remote_code", "Say it as `trustRemoteCode`"),
        ({"advanced": {"ref_model_adapters": "/etc"}}, "advanced.ref_model_adapters", "cannot be set"),
        ({"advanced": {"fsdp_config": "/etc/passwd"}}, "advanced.fsdp_config", "an object"),
        ({"advanced": {"adam_epsilon": "1e-8"}}, "advanced.adam_epsilon", "text"),
        ({"advanced": {"use_rslora": "yes"}}, "advanced.use_rslora", "text"),
        ({"advanced": {"fp8": True}}, "advanced.fp8", "GPU"),
        ({"valSize": 20}, "valSize", "20 of 20 rows"),
        ({"valSize": 1.0}, "valSize", "20 of 20 rows"),
        ({"finetuningType": "freeze", "freezeLayers": 0}, "freezeLayers", "No layer"),
        ({"fsdp": "full_shard auto_wrap", "processes": 2}, "fsdp", "GPUs"),
        ({"schedule": "reduce_lr_on_plateau"}, "schedule", "evaluation"),
        ({"template": "qwen2_vl"}, "template", "pictures"),
        ({"stage": "grpo", "rewards": [{"name": "j", "endpoint": "http://10.0.0.1/"}]}, "rewards[0].endpoint", "admin"),
        ({"modelName": SMALL, "finetuningType": "full", "processes": 500}, "batchSize", "fit with processes 1"),
        ({"modelName": SMALL, "stage": "pt", "cutoffLength": 1_048_576}, "batchSize", "cutoffLength"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_field(tmp_path: Path, more: dict[str, Any], field: str, words: str) -> None:
    errors = [note for note in notes(tmp_path, more) if note.level == "error"]
    assert [note.field for note in errors] == [field], errors
    assert words in f"{errors[0].message} {errors[0].hint}"


def test_a_foreign_adapter_is_refused(tmp_path: Path) -> None:
    asked = {"modelName": SMALL, "adapter": "own"}
    [error] = [n for n in notes(tmp_path, asked, models=[adapter_of("builtin:tiny-qwen3")]) if n.level == "error"]
    assert (error.field, error.hint) == ("adapter", "Name builtin:tiny-qwen3 as modelName.")
    assert not [n for n in notes(tmp_path, asked, models=[adapter_of(SMALL)]) if n.level == "error"]


@pytest.mark.parametrize(
    "more",
    [
        {"schedule": "cosine_with_min_lr"},
        {"valSize": 0.1, "schedule": "reduce_lr_on_plateau"},
        {"advanced": {"adam_epsilon": 1e-8, "loraplus_lr_ratio": 16, "flash_attn": "sdpa", "neftune_noise_alpha": 5}},
    ],
)
def test_what_runs_passes(tmp_path: Path, more: dict[str, Any]) -> None:
    assert [note for note in notes(tmp_path, more) if note.level == "error"] == []


def test_processes_have_a_gpu_each_and_a_cpu_together() -> None:
    size, spec = architecture.BUILTIN[SMALL], {"stage": "sft", "finetuningType": "full"}
    work = estimate.work(spec, 20, 2_000)
    assert estimate.memory({**spec, "processes": 4}, size, work, CPU) == pytest.approx(
        4 * estimate.memory(spec, size, work, CPU)
    )
    assert estimate.memory({**spec, "processes": 4}, size, work, GPU) == estimate.memory(spec, size, work, GPU)


def test_a_small_models_speed_says_nothing_of_a_large_ones(tmp_path: Path) -> None:
    spec = {"stage": "sft", "finetuningType": "lora"}
    tiny, small = architecture.BUILTIN["builtin:tiny-qwen3"], architecture.BUILTIN[SMALL]
    estimate.learn_speed(tmp_path, "cpu", spec, tiny, 1_000, 10.0)
    learned = estimate.estimate(spec, tiny, 20, 2_000, CPU, estimate.speeds(tmp_path))
    other = estimate.estimate(spec, small, 20, 2_000, CPU, estimate.speeds(tmp_path))
    assert learned.basis.startswith("runs of models of this size")
    assert other.basis.startswith("a rule of thumb")


def test_roots_are_written_like_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REDIS_URL", "STORAGE_URL", "SERVICE_KEY"):
        monkeypatch.setenv(f"IMTS_{name}", "x")
    monkeypatch.setenv("IMTS_MODEL_ROOTS", f"{tmp_path}:/srv/models")
    assert TrainingSettings().model_roots == [tmp_path, Path("/srv/models")]
