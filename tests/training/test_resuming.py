"""A run that was stopped goes on from its checkpoint as if nothing had happened."""

import time
from typing import Any

import pytest

from imts_shared.contracts.internal import Checkpoint
from tests.training import material
from tests.training.conftest import Place, Run
from training_service import leaving

LONG = {**material.TINY, "epochs": 3.0, "loraDropout": 0.1}


def at_step(step: int) -> Any:
    def watch(event: dict[str, Any], stop: Any) -> None:
        if event["type"] == "metric" and event["data"].get("step") == step:
            stop()

    return watch


def undisturbed(place: Place, spec: dict[str, Any], form: str, rows: list[dict[str, Any]]) -> Run:
    run = place.run(spec, [place.dataset("data", form, rows)])
    assert run.outcome["status"] == "succeeded", run.outcome
    return run


@pytest.mark.parametrize(
    ("stage", "form", "rows"),
    [
        ("sft", "alpaca", material.alpaca()),
        ("dpo", "preference", material.preferences()),
        ("kto", "kto", material.feedback()),
        ("rm", "preference", material.preferences()),
    ],
)
def test_stop_saves_and_the_next_attempt_goes_on(
    place: Place, stage: str, form: str, rows: list[dict[str, Any]]
) -> None:
    spec = {**LONG, "stage": stage}
    whole = undisturbed(place, spec, form, rows)
    inputs = [place.dataset("data", form, rows)]
    first = place.run(spec, inputs, watch=at_step(8))
    assert first.outcome["status"] == "stopped"
    stopped_at = first.newest.step
    assert stopped_at >= 8
    assert set(first.losses) == set(range(1, stopped_at + 1))
    second = place.run(spec, inputs, resume_from=first.newest)
    assert min(second.losses) == stopped_at + 1
    together = {**first.losses, **second.losses}
    assert sorted(together) == sorted(whole.losses)
    for step, loss in whole.losses.items():
        assert together[step] == pytest.approx(loss, abs=2e-3), step
    assert "goes on from the checkpoint" in second.of("message")[-1]["text"]


def test_full_fine_tuning_resumes_too(place: Place) -> None:
    spec = {**LONG, "finetuningType": "full", "saveSteps": 7}
    inputs = [place.dataset("data", "alpaca", material.alpaca())]
    whole = place.run(spec, inputs)
    assert [point["step"] for point in whole.of("checkpoint")] == [7, 14, 21, 28, 35, 36]
    middle = Checkpoint.model_validate(whole.of("checkpoint")[1])
    again = place.run(spec, inputs, resume_from=middle)
    assert min(again.losses) == 15, "the checkpoint lies within the second epoch"
    for step, loss in again.losses.items():
        assert loss == pytest.approx(whole.losses[step], abs=1e-3)


def test_a_stop_within_a_step_changes_nothing(place: Place) -> None:
    spec = {**LONG, "gradientAccumulation": 12, "batchSize": 1, "loraDropout": 0.5, "maxSteps": 10}
    whole = undisturbed(place, spec, "alpaca", material.alpaca())
    inputs = [place.dataset("data", "alpaca", material.alpaca())]
    first = place.run(spec, inputs, watch=at_step(3))
    assert first.newest.step == max(first.losses)
    assert first.newest.step < 10
    second = place.run(spec, inputs, resume_from=first.newest)
    for step, loss in whole.losses.items():
        assert {**first.losses, **second.losses}[step] == pytest.approx(loss, abs=1e-4), step
    assert second.of("metric")[-1]["tokens"] == whole.of("metric")[-1]["tokens"]


def test_a_step_that_takes_long_is_left(place: Place) -> None:
    """A step of it takes many seconds on a CPU; the order comes early in the second one."""
    rows = [{"instruction": "Say it.", "output": "It is said again and again. " * 120}] * 24
    spec = {**material.TINY, "modelName": "builtin:smollm2-135m", "batchSize": 12, "cutoffLength": 512, "maxSteps": 2}
    at: dict[str, float] = {}

    def watch(event: dict[str, Any], stop: Any) -> None:
        if event["type"] == "progress" and event["data"]["step"] == 0:
            at.setdefault("begun", time.monotonic())
        if event["type"] == "metric" and event["data"].get("step") == 1 and "ordered" not in at:
            at["ordered"] = time.monotonic()
            stop()

    run = place.run(spec, [place.dataset("data", "alpaca", rows)], watch=watch)
    took, step = time.monotonic() - at["ordered"], at["ordered"] - at["begun"]
    assert run.outcome["status"] == "stopped", run.outcome
    assert took < max(8.0, 0.8 * step)
    assert run.newest.step == max(run.losses) == 1
    assert {"optimizer.pt", "rng_state.pth", "adapter_model.safetensors"} <= set(place.files(run.newest.prefix))


def test_a_whole_reward_model_resumes_too(place: Place) -> None:
    spec = {**LONG, "stage": "rm", "finetuningType": "full", "saveSteps": 8, "maxSteps": 14, "learningRate": 1e-4}
    inputs = [place.dataset("data", "preference", material.preferences())]
    whole = place.run(spec, inputs)
    assert whole.outcome["status"] == "succeeded", "\n".join(whole.lines[-40:])
    again = place.run(spec, inputs, resume_from=Checkpoint.model_validate(whole.of("checkpoint")[0]))
    assert sorted(again.losses) == list(range(9, 15))
    for step, loss in again.losses.items():
        assert loss == pytest.approx(whole.losses[step], abs=2e-3)


def test_a_checkpoint_that_is_damaged_is_not_resumed_from(place: Place) -> None:
    spec = {**LONG, "saveSteps": 10, "maxSteps": 12}
    inputs = [place.dataset("data", "alpaca", material.alpaca())]
    first = place.run(spec, inputs)
    checkpoint = Checkpoint.model_validate(first.of("checkpoint")[0])
    weights = place.files(checkpoint.prefix)["adapter_model.safetensors"]
    weights.write_bytes(weights.read_bytes()[:-10])
    second = place.run(spec, inputs, resume_from=checkpoint)
    assert second.outcome["status"] == "succeeded"
    assert min(second.losses) == 1
    assert "cannot be used" in " ".join(message["text"] for message in second.of("message"))


def test_stop_within_a_long_evaluation_still_saves(place: Place) -> None:
    spec = {**LONG, "valSize": 0.5, "evalSteps": 4, "evalBatchSize": 1}
    rows = material.alpaca(400)
    seen: list[int] = []

    def in_evaluation(event: dict[str, Any], stop: Any) -> None:
        if event["type"] == "metric" and event["data"].get("step") == 4 and "loss" in event["data"]:
            seen.append(1)
            stop()

    run = place.run(spec, [place.dataset("data", "alpaca", rows)], watch=in_evaluation)
    assert run.outcome["status"] == "stopped"
    assert run.newest.step in (4, 5)
    assert seen


def test_time_alone_makes_checkpoints_too(place: Place) -> None:
    spec = {**LONG, "saveMinutes": 0.005}
    run = place.run(spec, [place.dataset("data", "alpaca", material.alpaca())])
    assert run.outcome["status"] == "succeeded"
    assert len(run.of("checkpoint")) >= 2


def test_a_step_is_left_once_wherever_it_stands() -> None:
    """Also when the signal comes at the step's very end: what follows it is not broken into."""
    leaving._within_a_step = True
    with pytest.raises(leaving.StepAbandoned):
        leaving._abandon(0, None)
    leaving._abandon(0, None)
