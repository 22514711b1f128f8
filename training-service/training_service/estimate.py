"""What a job will need: memory, time and disk, reckoned before it runs and compared with what it took."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imts_shared.contracts.training import Estimate
from training_service import configuration
from training_service.architecture import Size

FRAMEWORKS_BYTES = 750 * 10**6
"""What a process holds that has imported torch and LLaMA-Factory, and nothing else."""

BYTES_A_TOKEN = 3.8
TURNS_TOKENS = 24
"""What a template adds to a row."""

RULES_OF_THUMB = {"cpu": 1.5e11, "gpu": 6e13}
"""Floating point operations a second that training reaches; a CPU's for each core."""

START_SECONDS = 4.0
GIB = 2**30


@dataclass(frozen=True)
class Device:
    """Where the job would run."""

    name: str
    memory_bytes: int
    gpu: bool
    cores: int = 1


@dataclass(frozen=True)
class Work:
    steps: int
    tokens: int
    longest: int
    """Tokens of the longest row that a batch may hold."""


def work(spec: dict[str, Any], rows: int, data_bytes: int) -> Work:
    """From the size of the files; a row's tokens are the mean, capped by cutoffLength."""
    cutoff = spec.get("cutoffLength", 2048)
    rows = min(rows, spec.get("maxSamples") or rows)
    mean = data_bytes / max(rows, 1) / BYTES_A_TOKEN + TURNS_TOKENS
    mean = min(mean, cutoff)
    held_back = spec.get("valSize") or 0
    rows = max(1, round(rows * (1 - held_back) if held_back < 1 else rows - held_back))
    processes = spec.get("processes") or max(1, spec.get("gpus") or 1)
    batch = spec.get("batchSize", 2) * processes
    accumulation = spec.get("gradientAccumulation", 1)
    sequences: float = rows
    if spec.get("packing") or spec["stage"] == "pt":
        sequences = max(1.0, rows * mean / cutoff)
        mean = cutoff
    longest = min(cutoff, 2 * mean)
    if spec["stage"] == "grpo":
        answer = spec.get("maxCompletionLength") or configuration.COMPLETION_LENGTH
        group = spec.get("groupSize") or configuration.GROUP_SIZE
        accumulation = configuration.of_whole_groups(accumulation, batch, group)
        sequences, mean, longest = sequences * group, mean + answer, longest + answer
    in_epoch = max(1, math.ceil(sequences / batch / accumulation))
    steps = spec.get("maxSteps") or max(1, math.ceil(in_epoch * spec.get("epochs", 3.0)))
    answers = 2 if spec["stage"] in ("dpo", "simpo", "orpo", "rm", "kto") else 1
    tokens = round(steps * batch * accumulation * mean * answers)
    return Work(steps, tokens, round(longest))


def trainable(spec: dict[str, Any], size: Size) -> int:
    kind = spec["finetuningType"]
    if kind in ("lora", "qlora"):
        return int((spec.get("loraRank") or 8) * size.widths)
    if kind == "oft":
        return 16 * size.widths
    if kind == "freeze":
        layers: int = abs(spec.get("freezeLayers") or 2)
        return size.linear * layers // max(size.layers, 1)
    return size.parameters


def memory(spec: dict[str, Any], size: Size, found: Work, device: Device) -> int:
    """On the device that trains: weights, gradients and the optimizer's two moments, activations, logits. Processes
    have a GPU each, but one CPU's memory together."""
    half = spec.get("precision") in ("bf16", "fp16", "pure_bf16") or (device.gpu and spec.get("precision") != "fp32")
    width = 2 if half else 4
    quantized = spec.get("quantization") or (4 if spec["finetuningType"] == "qlora" else None)
    bits = quantized.get("bits", 4) if isinstance(quantized, dict) else quantized
    learning = trainable(spec, size)
    if bits:
        weights = size.linear * (bits / 8 + 0.07) + (size.parameters - size.linear) * width
    else:
        weights = size.parameters * (4 if spec["finetuningType"] == "full" else width)
    states = learning * (4 + 8)
    pairs = 2 if spec["stage"] in ("dpo", "simpo", "orpo", "rm", "kto", "grpo") else 1
    in_batch = spec.get("batchSize", 2) * pairs * found.longest
    checkpointed = spec.get("gradientCheckpointing") is not False
    kept = size.layers + 24 if checkpointed else size.layers * 24
    activations = in_batch * size.hidden * width * kept
    logits = in_batch * size.vocabulary * (4 + width) * 1.5
    refers = spec["stage"] == "dpo" or (spec["stage"] == "grpo" and spec.get("prefBeta"))
    reference = size.parameters * width if refers and spec["finetuningType"] in ("full", "freeze") else 0
    held: float = weights + states + activations + logits + reference
    beside = 1 if device.gpu else spec.get("processes") or 1
    return round((held * 1.1 + FRAMEWORKS_BYTES) * beside)


def operations(spec: dict[str, Any], size: Size, tokens: int) -> float:
    """A forward pass costs two operations a parameter and token, each half of the backward pass as much; frozen
    weights need no gradient of their own, and checkpointing runs the forward pass again."""
    active = size.linear + size.vocabulary * size.hidden
    backward = 4 if spec["finetuningType"] == "full" else 2
    again = 0 if spec.get("gradientCheckpointing") is False else 2
    references = 2 if spec["stage"] in ("dpo", "kto", "grpo") else 0
    return float(active * tokens * (2 + backward + again + references))


def estimate(
    spec: dict[str, Any], size: Size | None, rows: int, data_bytes: int, device: Device, speeds: dict[str, float]
) -> Estimate:
    found = work(spec, rows, data_bytes)
    if size is None:
        return Estimate(
            steps=found.steps, tokens=found.tokens, device=device.name, basis="The model's size is not known here yet."
        )
    speed = speeds.get(speed_key(device.name, size))
    basis = "runs of models of this size on this device"
    if speed is None:
        speed = RULES_OF_THUMB["gpu"] if device.gpu else RULES_OF_THUMB["cpu"] * device.cores
        basis = "a rule of thumb; no model of this size has run on this device yet"
    learning = trainable(spec, size)
    saved = learning * 12 + (0 if spec["finetuningType"] in ("lora", "qlora", "oft") else size.parameters * 2)
    return Estimate(
        steps=found.steps,
        tokens=found.tokens,
        seconds=round(START_SECONDS + operations(spec, size, found.tokens) / speed, 1),
        memory_bytes=memory(spec, size, found, device),
        disk_bytes=round(saved * (spec.get("saveTotalLimit", 3) + 2) + data_bytes * 2),
        device=device.name,
        parameters=size.parameters,
        trainable_parameters=learning,
        basis=basis,
    )


def fitting(spec: dict[str, Any], size: Size, rows: int, data_bytes: int, device: Device) -> str | None:
    """The nearest change with which the job would fit, in words."""
    for change, words in _changes(spec):
        other = {**spec, **change}
        if memory(other, size, work(other, rows, data_bytes), device) <= device.memory_bytes:
            return words
    return None


def _changes(spec: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    batch, cutoff = spec.get("batchSize", 2), spec.get("cutoffLength", 2048)
    changes: list[tuple[dict[str, Any], str]] = []
    smaller = batch // 2
    while smaller:
        more = spec.get("gradientAccumulation", 1) * batch // smaller
        changes.append(({"batchSize": smaller}, f"batchSize {smaller} with gradientAccumulation {more}"))
        smaller //= 2
    if spec["finetuningType"] == "full":
        changes.append(({"finetuningType": "lora"}, "finetuningType lora"))
        changes.append(({"finetuningType": "lora", "batchSize": 1}, "finetuningType lora with batchSize 1"))
    changes.append(({"finetuningType": "qlora", "batchSize": 1}, "finetuningType qlora with batchSize 1"))
    if (spec.get("processes") or 1) > 1:
        changes.insert(0, ({"processes": 1}, "processes 1"))
    short = cutoff // 2
    while short >= 256:
        for kind in dict.fromkeys((spec["finetuningType"], "qlora")):
            change = {"finetuningType": kind, "batchSize": 1, "cutoffLength": short}
            changes.append((change, f"finetuningType {kind} with batchSize 1 and cutoffLength {short}"))
        short //= 2
    return changes


def speeds(models: Path) -> dict[str, float]:
    try:
        found: dict[str, float] = json.loads((models / "speeds.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def speed_key(device: str, size: Size) -> str:
    """Small models reach a small part of a device's speed, so what was learned of one says nothing of a large one."""
    return f"{device}|{round(math.log(max(size.parameters, 1), 4))}"


def learn_speed(models: Path, device: str, spec: dict[str, Any], size: Size, tokens: int, seconds: float) -> None:
    """A run's speed moves what is believed of its device; two runs that end at once lose one of the two, no more."""
    if tokens <= 0 or seconds < 1:
        return
    measured = operations(spec, size, tokens) / seconds
    believed = speeds(models)
    key = speed_key(device, size)
    before = believed.get(key)
    believed[key] = measured if before is None else before * 0.6 + measured * 0.4
    unfinished = models / ".speeds.unfinished"
    unfinished.write_text(json.dumps(believed))
    unfinished.replace(models / "speeds.json")
