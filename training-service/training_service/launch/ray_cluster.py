"""A connection to a Ray cluster, or one of one's own, and room on it for all ranks at once."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from imts_shared.worker.engine import BadConfig, EngineJob
from training_service.launch.ray_member import TICK_SECONDS

PROBE_SECONDS = 5.0
CONNECT_SECONDS = 60.0
WAIT_SECONDS = 60.0
OBJECT_STORE_BYTES = 100 * 2**20
T = TypeVar("T")


def _no_answer(address: str) -> BadConfig:
    return BadConfig(
        f"No Ray cluster answers at {address}.",
        "Check rayAddress: host:6379 on a node of the cluster, ray://host:10001 from outside it.",
    )


def within(seconds: float, act: Callable[[], T], too_late: Exception) -> T:
    """Ray has calls that may never come back."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(act())
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise too_late
    return results[0]


def connect(job: EngineJob, address: str, count: int, own: Path | None) -> None:
    rules = {"namespace": f"imts-{job.id}-{job.attempt}", "log_to_driver": True, "logging_level": "WARNING"}
    if own is not None:
        _connect_own(job, count, own, rules)
        return
    _probe(address)
    within(CONNECT_SECONDS, lambda: _connect_other(address, rules), _no_answer(address))


def _connect_own(job: EngineJob, count: int, own: Path, rules: dict[str, Any]) -> None:
    """In this thread: Ray's processes end when the thread does that has started them."""
    import ray

    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(job.devices)
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(
        address="local",
        num_cpus=count,
        num_gpus=len(job.devices),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        _temp_dir=str(own),
        **rules,
    )
    signal.signal(signal.SIGTERM, handler)


def _connect_other(address: str, rules: dict[str, Any]) -> None:
    import ray

    try:
        ray.init(address=address, **rules)
    except (Exception, SystemExit) as error:
        raise BadConfig(
            f"The Ray cluster at {address} cannot be joined: {first_line(error)}",
            "The worker and the cluster need the same versions of Ray and Python, and the cluster's token"
            " (RAY_AUTH_TOKEN) in the worker's environment.",
        ) from error


def _probe(address: str) -> None:
    """Ray itself asks for minutes whether somebody is there."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address) from error


def placed(job: EngineJob, address: str, count: int) -> tuple[Any, str]:
    """Room for all ranks at once: a training of which a part waits would hold what it has for nothing."""
    import ray
    from ray.util.placement_group import placement_group

    asked = job.spec.get("gpus")
    there = ray.cluster_resources()
    resource = "GPU" if asked or (asked is None and there.get("GPU", 0) >= 1) else "CPU"
    patience = float(job.options.get("rayWaitSeconds") or WAIT_SECONDS)
    if there.get(resource, 0) < count:
        job.message(f"The Ray cluster has {_amount(there, resource)}; {count} are waited for.")
    group = placement_group([{resource: 1} for _ in range(count)], strategy="PACK")
    ready = group.ready()
    until = monotonic() + patience
    while not ray.wait([ready], timeout=TICK_SECONDS)[0]:
        job.obey()
        if monotonic() > until:
            raise BadConfig(
                f"{count} processes need {count} {resource}s at once; the Ray cluster at {address} has"
                f" {_amount(ray.cluster_resources(), resource)}, {_amount(ray.available_resources(), resource)} free,"
                f" and that did not change for {patience:.0f} s.",
                "Ask for fewer processes, add nodes, or wait until other work there has ended.",
            )
    return group, resource


def _amount(resources: dict[str, float], resource: str) -> str:
    return f"{resources.get(resource, 0):g} {resource}s"


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:500]
