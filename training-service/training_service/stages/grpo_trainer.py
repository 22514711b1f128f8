"""TRL's GRPOTrainer, which can be stopped while it generates and goes on as if it had not been."""

from collections.abc import Callable
from contextlib import nullcontext
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import StoppingCriteria, StoppingCriteriaList
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import RepeatSampler

from training_service.watching import EvaluationAbandoned


class GenerationAbandoned(Exception):
    """Ends a generation that is in the way of a stop. The step that it was for has not begun."""


class Trainer(GRPOTrainer):  # type: ignore[misc]
    """Prompts are given as tokens, so that a model is shown exactly what supervised training shows it."""

    def __init__(self, *, ordered: Callable[[], bool], **options: Any) -> None:
        super().__init__(**options)
        self._stop = _Stop(ordered if self.accelerator.num_processes == 1 else _never)
        self._prompts: list[list[int]] = []
        self._before: tuple[Any, Any] = _draws()

    def keep(self) -> None:
        """A checkpoint of the last step that was finished, if there is none yet."""
        step = self.state.global_step
        if step and not (Path(self.args.output_dir) / f"checkpoint-{step}").is_dir():
            self._save_checkpoint(self.model, None)
            self.control: Any = self.callback_handler.on_save(self.args, self.state, self.control)

    def _save_rng_state(self, output_dir: str) -> None:
        """Of a step that is left half done, the answers are generated again, and shall be the same."""
        if self._step % self.args.gradient_accumulation_steps:
            _draw_again(self._before)
        super()._save_rng_state(output_dir)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The platform writes one."""

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return EpochSampler(
            data_source=self.train_dataset if dataset is None else dataset,
            mini_repeat_count=self.num_generations,
            batch_size=self.args.generation_batch_size // self.num_generations,
            repeat_count=self.num_iterations * self.args.steps_per_generation,
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
        )

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        if self._step == 0 and self.state.global_step:
            self._step: int = self._batches_before()
        return super()._prepare_inputs(generation_batch)

    def _batches_before(self) -> int:
        """Batches of this epoch that a resumed run leaves out: TRL counts them to know when to generate anew."""
        each = self.args.gradient_accumulation_steps
        return int(self.state.global_step % ceil(len(self.callback_handler.train_dataloader) / each) * each)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        self._prompts = [row["prompt_tokens"] for row in inputs]
        return super()._generate_and_score_completions(
            [{name: value for name, value in row.items() if name != "prompt_tokens"} for row in inputs]
        )

    def _generate_single_turn(self, prompts: list[str], images: Any) -> Any:
        if self.use_transformers_paged:
            return super()._generate_single_turn(prompts, images)
        shown = [tokens[-self.max_prompt_length :] for tokens in self._prompts]
        batch = self.processing_class.pad({"input_ids": shown}, padding=True, padding_side="left", return_tensors="pt")
        self._before = _draws()
        generated = self._generated(batch.to(self.accelerator.device))
        if self._stop.heard:
            _draw_again(self._before)
            raise GenerationAbandoned if self.model.training else EvaluationAbandoned
        width = batch["input_ids"].size(1)
        return shown, [_up_to(self.eos_token_id, row) for row in generated[:, width:].tolist()], None, {}

    def _generated(self, batch: Any) -> Any:
        whole = (
            FullyShardedDataParallel.summon_full_params(self.model_wrapped, recurse=False)
            if self.is_fsdp_enabled
            else nullcontext()
        )
        with (
            unwrap_model_for_generation(
                self.model_wrapped, self.accelerator, gather_deepspeed3_params=self.args.ds3_gather_for_generation
            ) as model,
            torch.no_grad(),
            whole,
        ):
            return model.generate(
                **batch,
                generation_config=self.generation_config,
                disable_compile=True,
                stopping_criteria=StoppingCriteriaList([self._stop]),
            )


class EpochSampler(RepeatSampler):  # type: ignore[misc]
    """Each epoch's order follows from its number, so that a run that begins in the middle has the same."""

    def set_epoch(self, epoch: int) -> None:
        if self.shuffle:
            self.generator.manual_seed(self.seed + epoch)


class _Stop(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, ordered: Callable[[], bool]) -> None:
        self._ordered = ordered
        self.heard = False

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self.heard = self._ordered()
        return torch.full((input_ids.size(0),), self.heard, dtype=torch.bool, device=input_ids.device)


def _never() -> bool:
    return False


def _up_to(end: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


def _draws() -> tuple[Any, Any]:
    """Where the generators of random numbers stand."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None


def _draw_again(before: tuple[Any, Any]) -> None:
    torch.set_rng_state(before[0])
    if before[1] is not None:
        torch.cuda.set_rng_state_all(before[1])
