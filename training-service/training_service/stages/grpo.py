"""grpo, by TRL: the model answers each prompt several times, and learns from what its answers are paid."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.data.data_utils import merge_dataset, split_dataset
from llamafactory.hparams import get_train_args
from llamafactory.model import load_model, load_tokenizer
from trl import GRPOConfig

from imts_shared.contracts.jobs import Reason
from imts_shared.worker.engine import BadConfig, BadData, EngineFailure, EngineJob, Stopped
from training_service import prompts
from training_service.arguments import of_llamafactory, of_trl
from training_service.rewards.choice import RewardChoice, Rewards, build, read_choices
from training_service.rewards.row import RewardError
from training_service.stages.grpo_trainer import GenerationAbandoned, Trainer
from training_service.trainers import mend
from training_service.watching import Watch


def train(job: EngineJob, arguments: dict[str, Any], watch: Watch, output: Path) -> None:
    mend()
    rewards = _rewards(job)
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(_for_llamafactory(arguments))
    module = load_tokenizer(model_args)
    tokenizer = module["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    train_set, eval_set = _data(job, data_args, training_args.seed, template, tokenizer)
    config = _config(arguments, rewards)
    _say_groups(job, config, train_set)
    _say_cut(job, config, train_set)
    job.obey()
    model = load_model(tokenizer, model_args, finetuning_args, is_trainable=True)
    trainer = Trainer(
        ordered=lambda: job.order() is not None,
        model=model,
        reward_funcs=rewards.functions,
        args=config,
        train_dataset=train_set,
        eval_dataset=eval_set,
        processing_class=tokenizer,
        callbacks=[watch],
    )
    try:
        trainer.train(resume_from_checkpoint=arguments.get("resume_from_checkpoint"))
    except GenerationAbandoned:
        trainer.keep()
        raise Stopped(job.order()) from None
    trainer.save_model(str(output))


def _rewards(job: EngineJob) -> Rewards:
    try:
        choices = read_choices(job.spec.get("rewards"))
        built = build(choices, job.secrets, bool(job.options.get("allowInternalRewards")))
    except (ValueError, RewardError) as error:
        raise BadConfig(f"The rewards cannot be used: {error}", "Change `rewards`.") from error
    told = [_telling(*each) for each in zip(built.functions, built.names, choices, strict=True)]
    return built._replace(functions=told)


def _telling(function: Callable[..., list[float]], name: str, choice: RewardChoice) -> Callable[..., list[float]]:
    """The same reward, whose failure ends the job with words for the one who chose it."""
    reason, hint = Reason.bad_config, "Try the expression on a few completions and mend it."
    if choice.endpoint is not None:
        reason, hint = Reason.engine_error, "See that the endpoint answers the worker, then retry the job."

    @functools.wraps(function)
    def reward(*args: Any, **columns: Any) -> list[float]:
        try:
            return function(*args, **columns)
        except RewardError as error:
            raise EngineFailure(f"The reward {name!r} could not be worked out: {error}", hint, reason) from error

    return reward


def _for_llamafactory(arguments: dict[str, Any]) -> dict[str, Any]:
    """It loads the model and writes the prompts, as for sft; gradient checkpointing is left to the trainer, which
    has to switch it off while answers are generated."""
    found = {name: value for name, value in arguments.items() if name in of_llamafactory()}
    return found | {"stage": "sft", "disable_gradient_checkpointing": True}


def _config(arguments: dict[str, Any], rewards: Rewards) -> Any:
    given = {name: value for name, value in arguments.items() if name in of_trl() and name != "resume_from_checkpoint"}
    try:
        return GRPOConfig(**given, reward_weights=rewards.weights)
    except (ValueError, TypeError) as error:
        raise BadConfig(" ".join(str(error).split())[:500], "Change the fields that it names.") from error


def _data(job: EngineJob, data_args: Any, seed: int, template: Any, tokenizer: Any) -> tuple[Any, Any]:
    folder = Path(data_args.dataset_dir)

    def read(name: str) -> Any:
        use = job.spec["datasets"][int(name.removeprefix("data-"))]
        found = prompts.examples(folder / f"{name}.jsonl", use["name"], template, tokenizer)
        return Dataset.from_list([_heeding(job, example) for example in found])

    def merged(names: list[str] | None) -> Any:
        return merge_dataset([read(name) for name in names], data_args, seed) if names else None

    train_set, evaluation = merged(data_args.dataset), merged(data_args.eval_dataset)
    parts, held_back = split_dataset(train_set, evaluation, data_args, seed)
    return parts["train"], held_back.get("validation")


def _heeding(job: EngineJob, example: dict[str, Any]) -> dict[str, Any]:
    job.obey()
    return example


def _say_groups(job: EngineJob, config: Any, train_set: Any) -> None:
    at_once = config.generation_batch_size // config.num_generations
    asked = job.spec.get("gradientAccumulation", 1)
    if config.gradient_accumulation_steps != asked:
        job.message(
            f"gradientAccumulation is {config.gradient_accumulation_steps} instead of {asked}: a step takes whole"
            f" groups of {config.num_generations} answers, here to {at_once} prompt{'s' if at_once > 1 else ''}."
        )
    if len(train_set) < at_once:
        raise BadData(
            f"There are {len(train_set)} prompts, and a step takes {at_once}.",
            "Take a smaller batchSize or gradientAccumulation, or a larger groupSize.",
        )


def _say_cut(job: EngineJob, config: Any, train_set: Any) -> None:
    most = config.max_prompt_length
    longer = sum(len(tokens) > most for tokens in train_set["prompt_tokens"])
    if longer:
        job.message(
            f"{longer} of {len(train_set)} prompts are longer than cutoffLength:"
            f" of those the last {most} tokens are shown."
        )
