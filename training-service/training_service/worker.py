"""The training worker: runs training and export jobs, each in a process forked from one that has imported torch."""

import os

from imts_shared.worker.gpus import Gpus, found
from imts_shared.worker.runtime import run_worker
from training_service.settings import settings


def main() -> None:
    rules = settings()
    gpus = Gpus(found(os.environ.get("CUDA_VISIBLE_DEVICES")), rules.gpu_locks)
    _before_any_import_of_torch()
    run_worker(
        service="training-service",
        kinds=["training", "export"],
        engine="training_service.engine:run",
        preload=["training_service.preload"],
        settings=rules,
        health_port=rules.training_worker_port,
        slots=rules.training_slots or max(1, len(gpus.devices)),
        gpus=gpus,
        options={
            "models": str(rules.models),
            "modelRoots": os.pathsep.join(str(root) for root in rules.model_roots),
            "rayWaitSeconds": str(rules.training_ray_wait_seconds),
            "hub": rules.hub,
            "hubMirror": rules.hub_mirror or "",
            "hubOffline": "1" if rules.hub_offline else "",
            "allowInternalRewards": "1" if rules.allow_internal_rewards else "",
        },
    )


def _before_any_import_of_torch() -> None:
    """The process that is forked must never have spoken to a GPU's driver: a fork could not use it any more. With no
    device visible and counting left to NVML, torch has no reason to; the child makes its own devices visible."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts them
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
