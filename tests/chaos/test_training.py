"""One round of killing training; the long run is `python -m tests.chaos.training --rounds 20`."""

import os
from pathlib import Path

import pytest

from tests.chaos import training

WHOLE = {1: 3.0, 2: 2.0, 3: 1.0}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not os.environ.get("IMTS_TEST_TRAINING_PYTHON"), reason="needs the training service's python")
def test_killed_training_ends_as_if_undisturbed(tmp_path: Path) -> None:
    python = Path(os.environ["IMTS_TEST_TRAINING_PYTHON"])
    summary, violations = training.chaos(tmp_path, python, rounds=1, seed=3, deeds=["worker", "engine"])
    assert violations == [], f"logs are in {tmp_path}"
    assert summary["faults_injected"] == {"engine": 1, "worker": 1}


def test_a_step_that_is_missing_doubled_or_too_many() -> None:
    assert training.steps_once("metrics", list(WHOLE.items()), WHOLE) is None
    for harmed in ([(1, 3.0), (3, 1.0)], [*WHOLE.items(), (3, 1.0)], [*WHOLE.items(), (4, 1.0)]):
        assert training.steps_once("metrics", harmed, WHOLE)
    assert "order" in (training.steps_once("events", [(2, 2.0), (1, 3.0), (3, 1.0)], WHOLE) or "")


def test_another_loss() -> None:
    assert training.as_undisturbed({1: 3.0, 2: 2.001, 3: 1.001}, WHOLE) is None
    assert "last loss" in (training.as_undisturbed({**WHOLE, 3: 1.03}, WHOLE) or "")
    assert "from step 2 on" in (training.as_undisturbed({**WHOLE, 2: 2.1}, WHOLE) or "")
