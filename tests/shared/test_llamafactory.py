"""LLaMA-Factory's configurations as requests."""

import pytest
from pydantic import ValidationError

from imts_shared.contracts.llamafactory import _OF_ONE_WORD
from imts_shared.contracts.training import TrainingRequest


def test_fields_of_ours_may_be_added_to_a_configuration() -> None:
    written = {"model_name_or_path": "m", "dataset": "d", "num_train_epochs": 2.0, "flash_attn": "auto"}
    request = TrainingRequest.model_validate({**written, "samples": 2, "precision": "fp32", "maxSteps": 5, "gpus": 0})
    assert (request.samples, request.precision, request.max_steps, request.gpus) == (2, "fp32", 5, 0)
    assert (request.epochs, request.advanced) == (2.0, {"flash_attn": "auto"})


def test_names_of_one_word_are_fields() -> None:
    assert set(TrainingRequest.model_fields) >= _OF_ONE_WORD


@pytest.mark.parametrize("none", [{}, {"use_ray": False, "ray_num_workers": 4}])
def test_ray_is_a_launcher(none: dict[str, object]) -> None:
    written = {"model_name_or_path": "m", "dataset": "a, b"}
    request = TrainingRequest.model_validate({**written, "use_ray": True, "ray_num_workers": 4})
    assert (request.launcher, request.processes, request.dataset) == ("ray", 4, ["a", "b"])
    request = TrainingRequest.model_validate({**written, **none})
    assert (request.launcher, request.processes) == (None, None)


def test_one_data_set_is_evaluated_on() -> None:
    written = {"model_name_or_path": "m", "dataset": "a"}
    assert TrainingRequest.model_validate({**written, "eval_dataset": ["b"]}).eval_dataset == "b"
    with pytest.raises(ValidationError, match="only one data set is evaluated on"):
        TrainingRequest.model_validate({**written, "eval_dataset": "b,c"})


def test_a_deepspeed_file_means_nothing_at_the_other_end() -> None:
    written = {"model_name_or_path": "m", "dataset": "a"}
    assert TrainingRequest.model_validate({**written, "deepspeed": 3}).deepspeed == "3"
    assert TrainingRequest.model_validate({**written, "deepspeed": {"zero_optimization": {}}}).deepspeed
    with pytest.raises(ValidationError, match="what the file holds"):
        TrainingRequest.model_validate({**written, "deepspeed": "examples/ds_z3.json"})
