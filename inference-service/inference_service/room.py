"""Memory of this machine, lent to engines before they start, so that one that does not fit harms no other."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from imts_shared.contracts.deployments import DeploymentReason, Engine
from inference_service.trouble import CannotServe

GIB = 2**30
VLLM_BYTES = 2 * GIB
"""What vLLM's own two processes take at most before any weights, measured on a CPU."""
VLLM_GPU_BYTES = 4 * GIB
LLAMACPP_BYTES = GIB
"""Its context and buffers as it chooses them."""
SHARE = 0.8
MOST_CACHE_GB = 4

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Waits:
    """Why it does not fit now; `ever` is false when it cannot while the others of its deployment run."""

    message: str
    hint: str
    ever: bool


def estimate(engine: Engine, model: Path, cache_gb: int, *, on_gpu: bool) -> int:
    """Bytes of the machine's memory, not of the GPU's: an engine has its GPUs for itself."""
    if on_gpu:
        return VLLM_GPU_BYTES
    if engine == Engine.llamacpp:
        return model.stat().st_size + LLAMACPP_BYTES
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return weights + cache_gb * GIB + VLLM_BYTES


def usual_cache_gb(budget: int) -> int:
    return max(1, min(MOST_CACHE_GB, budget // (8 * GIB)))


class Room(Generic[Key]):
    """What is lent is counted as estimated, whether it is used yet or not."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._lent: dict[Key, int] = {}

    def taken(self, key: Key, needed: int, staying: Iterable[Key]) -> Waits | None:
        """None when it is lent now. `staying` are those that will not leave before this one is ready."""
        free = self.budget - sum(self._lent.values())
        if needed <= free:
            self._lent[key] = needed
            return None
        stay = sum(self._lent.get(one, 0) for one in staying)
        ever = needed <= self.budget - stay
        what = f"It needs about {_gb(needed)} GB of memory, and {_gb(max(0, free))} of {_gb(self.budget)} GB are free"
        if ever:
            return Waits(f"{what}: it waits.", "Stop another deployment, or let it sleep (idleSeconds).", ever=True)
        if stay:
            return Waits(f"{what} beside the running version.", "Stop the deployment before this change.", ever=False)
        return Waits(
            f"{what}: it does not fit on this worker.",
            "Take a smaller or quantized model, or raise IMTS_INFERENCE_MEMORY_GB.",
            ever=False,
        )

    def give_back(self, key: Key) -> None:
        self._lent.pop(key, None)


def no_room(waits: Waits) -> CannotServe:
    return CannotServe(DeploymentReason.no_room, waits.message, waits.hint, final=True)


def _gb(count: int) -> str:
    return f"{count / GIB:.1f}"
