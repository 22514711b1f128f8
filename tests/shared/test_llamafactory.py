"""LLaMA-Factory's configurations as requests."""

from imts_shared.contracts.llamafactory import _OF_ONE_WORD
from imts_shared.contracts.training import TrainingRequest


def test_fields_of_ours_may_be_added_to_a_configuration() -> None:
    written = {"model_name_or_path": "m", "dataset": "d", "num_train_epochs": 2.0, "flash_attn": "auto"}
    request = TrainingRequest.model_validate({**written, "samples": 2, "precision": "fp32", "maxSteps": 5, "gpus": 0})
    assert (request.samples, request.precision, request.max_steps, request.gpus) == (2, "fp32", 5, 0)
    assert (request.epochs, request.advanced) == (2.0, {"flash_attn": "auto"})


def test_names_of_one_word_are_fields() -> None:
    assert set(TrainingRequest.model_fields) >= _OF_ONE_WORD
