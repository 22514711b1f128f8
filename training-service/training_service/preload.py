"""Imported once by the process that jobs are forked from: what nearly every job needs, so that none waits for it."""

import shutil

from training_service.frameworks import ready

ready()

import accelerate.state  # noqa: E402, F401
import llamafactory.train.tuner  # noqa: E402, F401
import peft.tuners.lora.model  # noqa: E402
import torch._inductor.compile_fx  # noqa: E402
import torch.optim.lr_scheduler  # noqa: E402
import torch.utils.data  # noqa: E402, F401
import transformers.models.llama.modeling_llama  # noqa: E402
import transformers.models.qwen2.tokenization_qwen2_fast  # noqa: E402
import transformers.models.qwen3.modeling_qwen3  # noqa: E402, F401

import training_service.engine  # noqa: E402
import training_service.results  # noqa: E402
import training_service.trainers  # noqa: E402
import training_service.training  # noqa: E402, F401

if shutil.which("nvidia-smi") is None:  # it chooses its library by the GPUs that it sees when it is imported
    import peft.tuners.lora.bnb  # noqa: F401
