"""The GPUs of an attempt, made visible to its process."""

import os

from imts_shared.worker.engine import EngineJob


def own_devices(job: EngineJob) -> None:
    """This process sees its own GPUs and no others. Until now nothing here has spoken to a GPU's driver."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(job.devices)
    if not job.devices:
        return
    import torch
    from llamafactory.extras import misc
    from transformers.utils import import_utils

    torch.cuda.device_count.cache_clear()
    for known in vars(import_utils).values():
        if hasattr(known, "cache_clear") and getattr(known, "__name__", "").startswith("is_torch"):
            known.cache_clear()
    misc._is_fp16_available = torch.cuda.is_available()
    misc._is_bf16_available = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
