"""In how many processes a job trains, and who starts them. Light: what checks a job before it runs asks here too.

process     in the attempt's own process
torchrun    in several processes on this machine, as torchrun would start them (`processes`)
ray         in actors on a Ray cluster (`ray`)
"""

from dataclasses import dataclass
from typing import Any, Literal

from imts_shared.worker.engine import BadConfig

Launcher = Literal["process", "torchrun", "ray"]


@dataclass(frozen=True)
class Launch:
    launcher: Launcher
    count: int
    """Processes that train together."""


@dataclass(frozen=True)
class Objection:
    """What cannot be launched, and which field says so."""

    field: str
    message: str
    hint: str


def chosen(spec: dict[str, Any], devices: list[str]) -> Launch:
    """What the job asks for on a worker with these GPUs; raises BadConfig where that cannot be."""
    for objection in [*objections(spec), *_of_devices(spec, devices)]:
        raise BadConfig(objection.message, objection.hint)
    launcher = launcher_of(spec, len(devices))
    return Launch(launcher, 1 if launcher == "process" else _count(spec, len(devices)))


def launcher_of(spec: dict[str, Any], devices: int) -> Launcher:
    named: Launcher | None = spec.get("launcher")
    if named is not None:
        return named
    sharded = spec.get("deepspeed") is not None or bool(spec.get("fsdp"))
    return "torchrun" if sharded or _count(spec, devices) > 1 else "process"


def _count(spec: dict[str, Any], devices: int) -> int:
    """A Ray cluster's GPUs are not this worker's."""
    own = spec.get("gpus") if spec.get("launcher") == "ray" else devices
    return spec.get("processes") or own or 1


def objections(spec: dict[str, Any]) -> list[Objection]:
    """What can be said without a machine at hand."""
    found = []
    launcher, processes, gpus = spec.get("launcher"), spec.get("processes"), spec.get("gpus")
    if launcher == "process" and (processes or 1) > 1:
        found.append(
            Objection(
                "launcher",
                f"launcher process is one process, and {processes} are asked for.",
                "Take launcher torchrun, or processes 1.",
            )
        )
    if launcher == "process" and (gpus or 0) > 1:
        found.append(
            Objection(
                "launcher",
                f"One process trains on one GPU, and {gpus} are asked for.",
                "Take launcher torchrun, or gpus 1.",
            )
        )
    if processes and gpus and gpus != processes:
        found.append(
            Objection(
                "processes",
                f"Each process trains on one GPU: {processes} processes and {gpus} GPUs do not go together.",
                "Give both the same number, or leave `processes` out.",
            )
        )
    if launcher == "ray" and not spec.get("rayAddress"):
        found.append(
            Objection(
                "rayAddress",
                "launcher ray needs the cluster's address.",
                "Give rayAddress: host:6379 from a node of the cluster, ray://host:10001 from outside it.",
            )
        )
    if launcher == "ray" and (spec.get("deepspeed") is not None or spec.get("fsdp")):
        found.append(
            Objection(
                "launcher",
                "Under launcher ray every process holds the whole model: deepspeed and fsdp cannot be used with it,"
                " for the parts of their checkpoints would lie on different machines.",
                "Take launcher torchrun on one machine with several GPUs, or leave deepspeed and fsdp out.",
            )
        )
    if launcher != "ray" and spec.get("rayAddress"):
        found.append(
            Objection("rayAddress", "A rayAddress is for launcher ray alone.", "Add launcher: ray, or leave it out.")
        )
    return found


def _of_devices(spec: dict[str, Any], devices: list[str]) -> list[Objection]:
    """What this worker's GPUs do not allow. A Ray cluster has its own."""
    processes = spec.get("processes") or 1
    if spec.get("launcher") == "ray" or not devices or processes <= len(devices):
        return []
    return [
        Objection(
            "gpus",
            f"{processes} processes need {processes} GPUs, one each; this attempt has {len(devices)}.",
            f"Give gpus {processes} where a worker has so many, or gpus 0 to train on the CPU.",
        )
    ]
