"""The model that comes with the platform: made right, and trained by the stages that people begin with."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.training import material
from tests.training.conftest import Place
from tests.training.using import apart
from training_service.models import builtin
from training_service.models.making import NotMade, Workshop

KNOWN_IDS = [19556, 905, 216, 33, 34, 35, 28, 216, 18645, 250, 48392, 138, 17]
"""Of SmolLM2's own tokenizer."""


def test_its_tokens_and_its_answer_are_the_known_ones(models: Path) -> None:
    folder = apart("made", models, "smollm2-135m")
    ids, back, ends, answer = apart("talk", folder, "Hello world 123, 你好!", "What is the capital of France?")
    assert ids == KNOWN_IDS
    assert back == "Hello world 123, 你好!"
    assert ends == "<|im_end|>"
    assert answer == "The capital of France is Paris."


@pytest.mark.parametrize(
    ("stage", "form", "rows"),
    [("sft", "alpaca", material.alpaca()), ("dpo", "preference", material.preferences())],
)
def test_it_learns(place: Place, stage: str, form: str, rows: list[dict[str, Any]]) -> None:
    spec = {**material.TINY, "modelName": "builtin:smollm2-135m", "stage": stage, "maxSteps": 8, "learningRate": 5e-4}
    run = place.run(spec, [place.dataset("data", form, rows)])
    assert run.result["steps"] == 8
    assert run.losses[8] < 0.8 * run.losses[1]
    [model] = run.result["models"]
    assert "adapter_model.safetensors" in place.files(model["prefix"])


def test_it_is_made_for_who_has_no_frameworks(tmp_path: Path) -> None:
    workshop = Workshop()
    assert not workshop.asked(tmp_path, "tiny-qwen3")
    until = time.monotonic() + 120
    while not workshop.asked(tmp_path, "tiny-qwen3"):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert builtin.is_made(tmp_path, "tiny-qwen3")


def test_what_its_maker_said_last_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "builtin"
    blocked.write_text("a file where the folder should be")
    workshop = Workshop()
    with pytest.raises(NotMade, match=r"FileExistsError|NotADirectoryError"):
        for _ in range(600):
            assert not workshop.asked(tmp_path, "tiny-qwen3")
            time.sleep(0.1)
