"""What a trainer tells the platform while it runs, and how it hears that it shall stop."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

from imts_shared.contracts.jobs import Reason
from imts_shared.worker.engine import EngineFailure, EngineJob, Stopped
from training_service import chance
from training_service.cores import Cores
from training_service.samples import Samples

NAMES = {
    "loss": "loss",
    "learning_rate": "learningRate",
    "grad_norm": "gradNorm",
    "epoch": "epoch",
    "eval_loss": "evalLoss",
    "num_input_tokens_seen": "tokens",
}
SAVING_SHARE = 0.02
"""Checkpoints by time never take more than this share of the time."""


class Watch(TrainerCallback):  # type: ignore[misc]
    """Steps become progress and metric events, checkpoints are stored, an order ends the training in order."""

    def __init__(
        self, job: EngineJob, save_minutes: float, samples: Samples | None = None, *, reports: bool = True
    ) -> None:
        self._job = job
        self._samples = samples
        self._every = save_minutes * 60
        self._reports = reports
        self._cores = Cores()
        self._chance, self._seen = chance.now(), 0
        self._began = time.monotonic()
        self._first_step = self._saved_step = 0
        self._last_save = time.monotonic()
        self._save_took = 0.0
        self._tokens = 0
        self._tokens_at = time.monotonic()
        self._process = psutil.Process()
        self._told: tuple[int, frozenset[str]] | None = None
        self._stopping = False
        self.metrics: dict[str, float] = {}
        self.steps = 0
        self.tokens = 0
        self.seconds = 0.0
        self.peak_memory = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._cores.share()
        if self._samples is not None and self._reports and state.global_step == 0:
            self._samples.answer("before", more["model"], more["processing_class"])
        self._began = self._last_save = self._tokens_at = time.monotonic()
        self._first_step = state.global_step
        self._tokens = self._seen = int(state.num_input_tokens_seen)
        if self._reports:
            self._job.progress(state.global_step, state.max_steps)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._chance = chance.now()

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What a step that is left half done drew and counted is given back: whoever resumes does it from its start."""
        self._cores.share()
        self._heed(control)
        if self._stopping:
            self.give_back(state)

    def give_back(self, state: Any) -> None:
        chance.back_to(self._chance)
        state.num_input_tokens_seen = self._seen

    def unsaved(self, step: int) -> bool:
        return step > max(self._first_step, self._saved_step)

    def stopped(self) -> Stopped:
        return Stopped(self._job.order())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._cores.share()
        self._seen = state.num_input_tokens_seen
        if self._reports:
            done = state.global_step - self._first_step
            each = (time.monotonic() - self._began) / max(done, 1)
            self._job.progress(state.global_step, state.max_steps, each * (state.max_steps - state.global_step))
        self._heed(control, self._save_is_due())

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._cores.share()
        self._stopping, _due = agreed(self._job.order() is not None, False)
        if self._stopping:
            raise EvaluationAbandoned

    def _heed(self, control: Any, save_is_due: bool = False) -> None:
        self._stopping, due = agreed(self._job.order() is not None, save_is_due)
        if due:
            control.should_save = True
        if self._stopping:
            control.should_save = True
            control.should_evaluate = False
            control.should_training_stop = True

    def _save_is_due(self) -> bool:
        since = time.monotonic() - self._last_save
        return self._reports and bool(self._every) and since > max(self._every, self._save_took / SAVING_SHARE)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        values = {named(name): float(value) for name, value in (logs or {}).items() if _number(value)}
        if "trainLoss" in values:
            self.metrics["trainLoss"] = values["trainLoss"]
            return
        values = {name: value for name, value in values.items() if not name.startswith("train")}
        if not values:
            return
        loss = values.get("loss")
        if loss is not None and not math.isfinite(loss):
            raise diverged(state.global_step, loss, self.metrics.get("loss"), self.metrics.get("learningRate"))
        if loss is not None:
            values |= self._speed(state) | self._memory()
        self.metrics |= values
        told = (state.global_step, frozenset(values))
        if self._reports and told != self._told:
            self._told = told
            self._job.metric(state.global_step, **{k: v if math.isfinite(v) else None for k, v in values.items()})

    def _speed(self, state: Any) -> dict[str, float]:
        now, seen = time.monotonic(), int(state.num_input_tokens_seen)
        took, come = now - self._tokens_at, seen - self._tokens
        self._tokens_at, self._tokens = now, seen
        return {"tokensPerSecond": round(come / took, 2)} if come > 0 and took > 0 else {}

    def _memory(self) -> dict[str, float]:
        used = self._process.memory_info().rss
        self.peak_memory = max(self.peak_memory, used)
        found: dict[str, float] = {"memoryBytes": float(used)}
        if torch.cuda.is_initialized():
            at_most = max(torch.cuda.max_memory_reserved(device) for device in range(torch.cuda.device_count()))
            self.peak_memory = max(self.peak_memory, at_most)
            found["gpuMemoryBytes"] = float(at_most)
            with contextlib.suppress(ImportError, RuntimeError, OSError):
                found["gpuUse"] = float(torch.cuda.utilization())
        return found

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        began = time.monotonic()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        completed(folder)
        if not self._reports:
            return
        if folder.is_dir():
            self._job.checkpoint(folder, state.global_step)
            self._saved_step = state.global_step
        self._last_save = time.monotonic()
        self._save_took = self._last_save - began

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.steps = state.global_step
        self.tokens = int(state.num_input_tokens_seen)
        self.seconds = time.monotonic() - self._began
        if self._stopping and state.global_step < state.max_steps:
            raise self.stopped()
        if self._samples is not None and self._reports:
            self._samples.answer("after", more["model"], more["processing_class"])


def several() -> bool:
    return bool(torch.distributed.is_available() and torch.distributed.is_initialized())


def agreed(*wishes: bool) -> list[bool]:
    """What any process of the run wishes: all must save and stop at the same step, so they ask each other."""
    if not several():
        return list(wishes)
    device = torch.device("cuda") if torch.distributed.get_backend() == "nccl" else torch.device("cpu")
    flags = torch.tensor([int(wish) for wish in wishes], device=device)
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]


def completed(folder: Path) -> None:
    """Each process writes its own random state, on whatever machine it is. The folder of the one who stores it must
    have them all, and not before they are written."""
    if not several():
        return
    own = folder / f"rng_state_{torch.distributed.get_rank()}.pth"
    mine = (own.name, own.read_bytes()) if own.is_file() else None
    first = torch.distributed.get_rank() == 0
    everyones: list[tuple[str, bytes] | None] | None = [None] * torch.distributed.get_world_size() if first else None
    torch.distributed.gather_object(mine, everyones, dst=0)
    for name, content in filter(None, everyones or []):
        if not (folder / name).is_file():
            (folder / name).write_bytes(content)


class EvaluationAbandoned(Exception):
    """Ends an evaluation that is in the way of a stop; the trainer goes on to save its checkpoint."""


def named(name: str) -> str:
    """snake_case and slashes become one camelCase word: `rewards/format` -> rewardsFormat."""
    if name in NAMES:
        return NAMES[name]
    first, *rest = name.replace("/", "_").replace("-", "_").split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def diverged(step: int, loss: float, before: float | None, rate: float | None) -> EngineFailure:
    last = (
        f" The last finite loss was {before:.4g}" + (f" at a learning rate of {rate:.3g}." if rate else ".")
        if before
        else ""
    )
    return EngineFailure(
        f"The loss became {loss} at step {step}.{last}",
        "Lower learningRate, add warm-up, or train in fp32 or bf16 instead of fp16; look for odd rows in the data.",
        Reason.diverged,
    )
