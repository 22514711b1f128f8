"""What a training job is asked for. LLaMA-Factory's own names are taken too, so that its YAML files are requests."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from imts_shared.contracts.base import Answer, Request
from imts_shared.contracts.deployments import ServedName
from imts_shared.contracts.envelope import JobRequest
from imts_shared.contracts.inputs import DatasetInput, Device
from imts_shared.contracts.llamafactory import looks_like_llamafactory, request_from_llamafactory
from imts_shared.contracts.models import ModelInput
from imts_shared.contracts.problems import FieldNote

Name = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Stage = Literal["pt", "sft", "rm", "dpo", "simpo", "orpo", "kto", "ppo", "grpo"]
FinetuningType = Literal["lora", "qlora", "full", "freeze", "oft"]


class WeightedDataset(Request):
    name: Name = Field(description="A data set's id, name or name@version.")
    weight: float = Field(1.0, gt=0, le=1e6, description="How often its rows are drawn, relative to the others'.")


class Quantization(Request):
    bits: Literal[4, 8] = 4
    method: Literal["bnb", "hqq", "eetq"] = "bnb"
    type: Literal["nf4", "fp4"] = "nf4"
    double: bool = True


class DeployWish(Request):
    """Where what was trained is served."""

    name: ServedName | None = Field(None, description="What callers give as `model`. Default: the model's own name.")
    deployment: ServedName | None = Field(
        None, description="A deployment that takes the adapter, or changes to the model. Default: as POST would."
    )


class TrainingRequest(JobRequest):
    """Fine-tune a model."""

    model_name: Name = Field(description="builtin:..., a registered model, a path under an allowed root or a hub id.")
    dataset: Name | Annotated[list[Name | WeightedDataset], Field(min_length=1, max_length=64)] = Field(
        description="A data set's id or name, or several, each with a weight if need be."
    )
    stage: Stage = "sft"
    finetuning_type: FinetuningType = "lora"
    batch_size: int = Field(2, ge=1, le=65_536, description="Rows a device takes at once.")
    learning_rate: float = Field(5e-5, gt=0, le=10)
    epochs: float = Field(3.0, gt=0, le=100_000)
    max_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(None, description="Instead of epochs.")
    max_samples: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        None, description="Rows taken of each data set."
    )

    template: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None, description="Chat template; by default the one that fits the model."
    )
    cutoff_length: int = Field(2048, ge=8, le=1_048_576, description="Tokens of a row that are kept.")
    packing: bool | None = Field(None, description="Several rows in one sequence; by default for pt only.")
    neat_packing: bool | None = Field(None, description="Packed rows do not see each other.")
    eval_dataset: Name | None = None
    val_size: Annotated[float, Field(ge=0, le=1_000_000)] | None = Field(
        None, description="Share (below 1) or number of rows held back for evaluation."
    )
    eval_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    eval_batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None

    lora_rank: Annotated[int, Field(ge=1, le=4096)] | None = None
    lora_alpha: Annotated[int, Field(ge=1, le=65_536)] | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    lora_targets: Name | Annotated[list[Name], Field(min_length=1, max_length=100)] | None = Field(
        None, description='Module names, or "all".'
    )
    adapter: Name | None = Field(None, description="A registered adapter to go on from.")
    freeze_layers: Annotated[int, Field(ge=-1000, le=1000)] | None = Field(
        None, description="Layers that freeze trains: the last n, or the first for a negative number."
    )

    gradient_accumulation: int = Field(1, ge=1, le=65_536)
    schedule: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
        "reduce_lr_on_plateau", "cosine_with_min_lr", "warmup_stable_decay",
    ] = "linear"  # fmt: skip
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    optimizer: Annotated[str, StringConstraints(max_length=100)] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=10)] | None = None
    max_grad_norm: Annotated[float, Field(ge=0, le=1e6)] | None = None
    seed: int = Field(42, ge=0, le=2**31 - 1)

    precision: Literal["auto", "fp32", "bf16", "fp16", "pure_bf16"] = "auto"
    quantization: Quantization | Literal[4, 8] | None = None
    gradient_checkpointing: bool | None = None

    pref_beta: Annotated[float, Field(ge=0, le=100)] | None = None
    pref_loss: Literal["sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo"] | None = None
    ref_model: Name | None = None
    reward_model: Name | None = None

    rewards: Annotated[list[str | dict[str, Any]], Field(min_length=1, max_length=32)] | None = Field(
        None, description="grpo: what is rewarded; by default the five rewards for function calling."
    )
    group_size: Annotated[int, Field(ge=2, le=256)] | None = Field(None, description="grpo: answers to one prompt.")
    max_completion_length: Annotated[int, Field(ge=1, le=131_072)] | None = Field(None, description="grpo: tokens.")
    temperature: Annotated[float, Field(gt=0, le=10)] | None = Field(None, description="grpo: of the answers.")

    logging_steps: int = Field(1, ge=1, le=1_000_000)
    save_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        None, description="A checkpoint every so many steps."
    )
    save_minutes: float = Field(
        10, ge=0, le=100_000, description="And one when so much time has passed since the last; 0: never."
    )
    save_total_limit: int = Field(3, ge=1, le=10_000, description="Checkpoints that are kept.")
    early_stopping_steps: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="Evaluations without progress after which training ends."
    )
    samples: (
        Annotated[int, Field(ge=0, le=20)]
        | Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=4_000)]], Field(max_length=20)]
    ) = Field(0, description="Rows of the data, or prompts of your own, that are answered before and after training.")
    report_to: Annotated[list[Annotated[str, StringConstraints(max_length=50)]], Field(max_length=10)] | None = None

    gpus: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        None, description="Devices; by default one where there are any. 0: the CPU."
    )
    processes: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Processes that train together; by default one a device."
    )
    launcher: Literal["process", "torchrun", "ray"] | None = Field(
        None, description="By default process for one process, torchrun for several."
    )
    ray_address: Annotated[str, StringConstraints(pattern=r"^(auto|local|(ray://)?[\w.-]+:\d+)$")] | None = None
    deepspeed: Literal["0", "2", "2-offload", "3", "3-offload"] | dict[str, Any] | None = Field(
        None, description="A ZeRO stage, or a DeepSpeed configuration."
    )
    fsdp: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        None, description='Such as "full_shard auto_wrap".'
    )

    output_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")] | None = Field(
        None, description="The name under which the model is registered."
    )
    deploy: bool | DeployWish = Field(False, description="Serve what was trained as soon as the job has succeeded.")
    trust_remote_code: bool = Field(False, description="Only for a model that an admin has allowed it for.")
    advanced: Annotated[dict[str, Any], Field(max_length=300)] = Field(
        default_factory=dict, description="Anything else that LLaMA-Factory takes, by its own names."
    )

    @model_validator(mode="before")
    @classmethod
    def llamafactory_file(cls, given: Any) -> Any:
        return request_from_llamafactory(given) if looks_like_llamafactory(given) else given

    @field_validator("deepspeed", mode="before")
    @classmethod
    def number_or_content(cls, value: Any) -> Any:
        if isinstance(value, str) and value.endswith(".json"):
            raise ValueError("a file's path means nothing here: give a ZeRO stage, such as 3, or what the file holds")
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("eval_dataset", mode="before")
    @classmethod
    def one_evaluation(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 1:
            return value[0]
        if isinstance(value, list):
            raise ValueError("only one data set is evaluated on: upload the rows as one, or give valSize")
        return value

    @field_validator("report_to", mode="before")
    @classmethod
    def one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Estimate(Answer):
    """What a job will need, as far as can be told before it runs."""

    steps: int | None = None
    tokens: int | None = Field(None, description="That are trained on, all epochs together.")
    seconds: float | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    device: str
    parameters: int | None = None
    trainable_parameters: int | None = None
    basis: str = Field(description="What the time is reckoned from: runs measured here, or a rule of thumb.")


class CheckRequest(Answer):
    """A job as the control plane knows it, its names resolved."""

    spec: dict[str, Any]
    inputs: list[DatasetInput] = Field(default_factory=list)
    models: list[ModelInput] = Field(default_factory=list)
    devices: list[Device] = Field(default_factory=list, description="Of the workers that could run it.")


class TrainingCheck(Answer):
    """What is known about a request before it runs."""

    ok: bool
    notes: list[FieldNote] = Field(default_factory=list)
    estimate: Estimate | None = None
    arguments: dict[str, Any] = Field(default_factory=dict, description="What LLaMA-Factory is given.")
