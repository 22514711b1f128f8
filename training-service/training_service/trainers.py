"""What transformers' trainer lacks to go on exactly where a run was stopped; mended once in a process."""

from pathlib import Path
from typing import Any, NoReturn

from training_service.leaving import StepAbandoned, leavable
from training_service.watching import EvaluationAbandoned, Watch

VALUE_HEAD = "value_head.safetensors"


def mend(resume_from: str | None = None) -> None:
    from transformers import Trainer, trainer

    Trainer.resumes_from = resume_from
    if getattr(Trainer, "mended", False):
        return
    Trainer.mended = True
    Trainer.training_step = leavable(Trainer.training_step)
    Trainer._evaluate = _abandonable(Trainer._evaluate)
    Trainer.train = _with_watch_last(Trainer.train)
    Trainer._load_from_checkpoint = _sparing_value_heads(Trainer._load_from_checkpoint)
    Trainer._save = _parting_shared_weights(Trainer._save)
    trainer.skip_first_batches = _keeping_the_epoch(trainer.skip_first_batches)


def _abandonable(evaluate: Any) -> Any:
    """A trainer has no way to leave an evaluation; a stop must not wait for the end of one."""

    def abandonable(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return evaluate(self, *args, **options)
        except EvaluationAbandoned:
            self.control.should_save = True
            self.control.should_training_stop = True
            metric = self.args.metric_for_best_model
            worst = float("-inf") if self.args.greater_is_better else float("inf")
            return {metric if metric.startswith("eval_") else f"eval_{metric}": worst} if metric else {}

    return abandonable


def _with_watch_last(train: Any) -> Any:
    """Other callbacks still change a checkpoint's files when they hear of it; it is stored after them all. And
    LLaMA-Factory forgets where to resume from for some stages."""

    def with_watch_last(self: Any, resume_from_checkpoint: Any = None, *args: Any, **options: Any) -> Any:
        self.callback_handler.callbacks.sort(key=lambda callback: isinstance(callback, Watch))
        try:
            return train(self, resume_from_checkpoint or self.resumes_from, *args, **options)
        except StepAbandoned:
            _end_with_the_step_before(self)

    return with_watch_last


def _end_with_the_step_before(trainer: Any) -> NoReturn:
    """The weights are those of the last whole step: nothing but its end changes them."""
    watch: Watch = trainer.callback_handler.callbacks[-1]
    watch.give_back(trainer.state)
    if watch.unsaved(trainer.state.global_step):
        trainer._save_checkpoint(trainer.model, None)
        trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
    raise watch.stopped()


def _sparing_value_heads(load: Any) -> Any:
    """A model with a value head was loaded out of the checkpoint already: the trainer does not know its parts."""

    def sparing(self: Any, resume_from_checkpoint: Any, model: Any = None) -> Any:
        if (Path(resume_from_checkpoint) / VALUE_HEAD).is_file():
            return None
        return load(self, resume_from_checkpoint, model)

    return sparing


def _parting_shared_weights(save: Any) -> Any:
    """A wrapped model with tied embeddings is saved tensor by tensor, and safetensors takes none that share memory."""

    def parting(self: Any, output_dir: Any = None, state_dict: Any = None) -> None:
        model = self.accelerator.unwrap_model(self.model)
        if hasattr(model, "v_head"):
            seen: set[int] = set()
            parted = {}
            for name, tensor in (state_dict or model.state_dict()).items():
                parted[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
                seen.add(tensor.data_ptr())
            state_dict = parted
        save(self, output_dir, state_dict)

    return parting


def _keeping_the_epoch(skip: Any) -> Any:
    """The loader that skips what was seen counts its epochs from zero, and with them the order of the rows: a run that
    is resumed within its third epoch would see the rows in the order of its first."""

    def keeping(dataloader: Any, num_batches: int = 0) -> Any:
        skipping = skip(dataloader, num_batches)
        if hasattr(dataloader, "iteration"):
            skipping.iteration = dataloader.iteration
        return skipping

    return keeping
