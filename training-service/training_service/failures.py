"""From what frameworks raise to a reason and the lines that help the one who submitted the job."""

import re

from imts_shared.worker.engine import BadConfig, BadData, EngineFailure, OutOfDisk, OutOfMemory

FITS = (
    "Take a smaller batchSize (and a larger gradientAccumulation), a shorter cutoffLength, gradientCheckpointing,"
    " finetuningType lora or qlora, or a smaller model."
)


def explained(error: BaseException) -> EngineFailure | None:
    """None for what has no better words than its own."""
    text = str(error)
    name = type(error).__name__
    if isinstance(error, EngineFailure):
        return error
    if name == "OutOfMemoryError" or _any(text, "CUDA out of memory", "DefaultCPUAllocator", "can't allocate memory"):
        return OutOfMemory(f"The device ran out of memory: {_first_line(text)}", FITS)
    if _any(text, "No space left on device", "os error 28"):
        return OutOfDisk(
            f"No space is left on the worker's disk: {_first_line(text)}", "Free space, then retry the job."
        )
    if name == "SafetensorError" or ("safetensors" in text.lower() and "header" in text.lower()):
        return BadConfig(f"The model's weights are damaged: {_first_line(text)}", "Bring the model's files again.")
    if _any(text, "Cannot find valid samples", "Cannot find sufficient samples"):
        return BadData(
            "No row of the data is left to train on.",
            "Are the rows longer than cutoffLength, or does the template not fit? pt needs a whole sequence of text.",
        )
    if "The dataset is not applicable in the current training stage" in text:
        return BadData("The data set's format does not fit the stage.", "dpo and rm need preferences, kto feedback.")
    if _any(text, "Target modules", "target_modules") and "not found" in text:
        return BadConfig(_first_line(text), "Leave loraTargets out, or name modules that this model has.")
    if "does not exist" in text and "emplate" in text:
        return BadConfig(_first_line(text), "Leave `template` out, and the one that fits the model is taken.")
    if name in ("ImportError", "PackageNotFoundError", "ModuleNotFoundError"):
        return BadConfig(
            f"The worker lacks a package for this: {_first_line(text)}", "Leave the option out, or install it."
        )
    if name in ("ValueError", "HFValidationError") and _from_arguments(error):
        return BadConfig(_first_line(text), "Change the fields that it names.")
    return _of_the_model(name, text)


def _of_the_model(name: str, text: str) -> EngineFailure | None:
    if name == "IndexError" and "index out of range in self" in text:
        return BadConfig(
            "The rows hold a token that the model does not know.",
            "Leave `template` out, and the one that fits the model is taken; or give the model its own tokenizer.",
        )
    if re.search(r"loading.*requires you to execute|trust_remote_code", text):
        return BadConfig(
            "This model brings its own code, which is not run unless an admin has allowed it.",
            "An admin sets trustRemoteCode by PATCH /api/models/{id}; then submit with trustRemoteCode true.",
        )
    if name == "OSError" and _any(text, "is not a local folder", "does not appear to have a file named"):
        return BadConfig(f"The model cannot be loaded: {_first_line(text)}", "Check modelName.")
    return None


def _from_arguments(error: BaseException) -> bool:
    """Whether it was raised while arguments were checked, where a ValueError is the asker's mistake."""
    trace = error.__traceback__
    while trace is not None:
        if "hparams" in trace.tb_frame.f_code.co_filename or "hf_argparser" in trace.tb_frame.f_code.co_filename:
            return True
        trace = trace.tb_next
    return False


def _any(text: str, *parts: str) -> bool:
    return any(part in text for part in parts)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no words")[:500]


def peer_lost(error: BaseException) -> bool:
    """Whether a rank only lost another one that it was working with."""
    return type(error).__name__.startswith("Dist") or (
        isinstance(error, RuntimeError)
        and _any(str(error), "gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
    )
