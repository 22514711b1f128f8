"""Ranks as actors on a Ray cluster, each with a processor or a GPU of its own, on whatever machines Ray places them.

An actor has nothing of this machine: it gets the claim and the storage's address, and prepares model and data for
itself. This process trains nothing; several times a second it asks each actor what it has to say, sends that on as
its own, and says in return whether there is an order. Actors end with the process that started them.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from imts_shared.contracts.internal import Outcome
from imts_shared.contracts.jobs import Reason
from imts_shared.worker.engine import BadConfig, EngineFailure, EngineJob, Stopped
from training_service.launch.falls import SETTLE_SECONDS, Fall
from training_service.launch.ray_cluster import connect, placed, within
from training_service.launch.ray_member import TICK_SECONDS, Member, Parcel

READY_SECONDS = 300.0
"""For an actor to start and to import the frameworks, on a machine that may never have read them."""
END_SECONDS = 10.0
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_COLOR_PREFIX": "0", "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "5"}


@dataclass
class Post:
    """The conversation with one actor: one question is on its way at a time, so that answers keep their order."""

    actor: Any
    asked: Any = None
    fall: Fall | None = field(default=None)


def run(job: EngineJob, count: int) -> dict[str, Any]:
    import ray

    address = job.spec["rayAddress"]
    os.environ.update(ENVIRONMENT)
    own = Path(tempfile.mkdtemp(prefix="imts-ray-", dir="/tmp")) if address == "local" else None
    posts: list[Post] = []
    try:
        connect(job, address, count, own)
        group, resource = placed(job, address, count)
        posts = [Post(_member(job, group, resource, number)) for number in range(count)]
        return _followed(job, posts, _started(posts))
    finally:
        _end(posts)
        with suppress(BadConfig):
            within(END_SECONDS, ray.shutdown, BadConfig("Ray does not let go."))
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


def _member(job: EngineJob, group: Any, resource: str, number: int) -> Any:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    parcel = Parcel(job.claim.model_dump_json(by_alias=True), job.storage.url, job.storage.options, job.options, number)
    options = {"num_gpus": 1, "num_cpus": 0} if resource == "GPU" else {"num_cpus": 1}
    return (
        ray.remote(Member)
        .options(
            max_concurrency=2,
            max_restarts=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number),
            **options,
        )
        .remote(parcel)
    )


def _started(posts: list[Post]) -> list[Any]:
    """The trainings' promises, in the order of the ranks."""
    import ray

    count = len(posts)
    try:
        addresses = ray.get([post.actor.address.remote() for post in posts], timeout=READY_SECONDS)
        port = ray.get(posts[0].actor.meeting_point.remote(count), timeout=READY_SECONDS)
    except ray.exceptions.RayError as error:
        raise BadConfig(
            f"The Ray cluster's nodes cannot start a rank: {_cause(error)}",
            "Every node needs the training service's environment: the same image as the worker's.",
        ) from error
    return [
        post.actor.train.remote(number, count, addresses[0], port, addresses.count(addresses[number]))
        for number, post in enumerate(posts)
    ]


def _followed(job: EngineJob, posts: list[Post], trainings: list[Any]) -> dict[str, Any]:
    import ray

    settled_at: float | None = None
    while settled_at is None or monotonic() < settled_at:
        waiting = [training for training, post in zip(trainings, posts, strict=True) if post.fall is None]
        if not waiting:
            break
        done, _ = ray.wait(waiting, timeout=TICK_SECONDS)
        for training in done:
            number = trainings.index(training)
            posts[number].fall = _fall(training, number)
        _converse(job, posts)
        if _over(posts):
            settled_at = settled_at or monotonic() + SETTLE_SECONDS * (posts[0].fall is None or _lost(posts[0].fall))
    _converse(job, posts[:1], to_the_end=True)
    return _judged(posts)


def _over(posts: list[Post]) -> bool:
    return posts[0].fall is not None or any(post.fall and post.fall.outcome.status == "failed" for post in posts)


def _lost(fall: Fall) -> bool:
    return fall.outcome.status == "failed" and fall.after_another


def _judged(posts: list[Post]) -> dict[str, Any]:
    """What rank 0 says, unless another rank was the first to fall."""
    first = posts[0].fall
    if first is not None and not _lost(first):
        if first.outcome.status == "stopped":
            raise Stopped
        if first.outcome.status == "succeeded":
            return first.outcome.result or {}
        raise EngineFailure(first.outcome.message or "", first.outcome.hint, first.outcome.reason)
    fallen = [(post.fall, number) for number, post in enumerate(posts) if post.fall and _failed(post.fall)]
    fall, number = min(fallen, key=lambda one: one[0].after_another)
    raise fall.failure(number)


def _failed(fall: Fall) -> bool:
    return fall.outcome.status == "failed"


def _fall(training: Any, number: int) -> Fall:
    import ray

    try:
        said, after_another = ray.get(training)
        return Fall(Outcome.model_validate_json(said), after_another)
    except ray.exceptions.RayError as error:
        message = f"The process of rank {number} is gone: {_cause(error)}"
        return Fall(Outcome(status="failed", reason=Reason.engine_killed, message=message))


def _converse(job: EngineJob, posts: list[Post], *, to_the_end: bool = False) -> None:
    import ray

    for post in posts:
        for _ in range(2 if to_the_end else 1):
            if post.asked is None:
                post.asked = post.actor.exchange.remote(job.order())
            try:
                for frame in ray.get(post.asked, timeout=END_SECONDS if to_the_end else TICK_SECONDS):
                    job.relay(frame)
            except ray.exceptions.GetTimeoutError:
                continue
            except ray.exceptions.RayError:
                pass  # the training's own promise says more
            post.asked = None


def _end(posts: list[Post]) -> None:
    import ray

    with suppress(Exception):
        tidied = [post.actor.tidy.remote() for post in posts]
        ray.wait(tidied, num_returns=len(tidied), timeout=END_SECONDS / 2)
        for post in posts:
            ray.kill(post.actor)


def _cause(error: BaseException) -> str:
    """The line of a Ray error that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line and not line.startswith(("ray::", "File"))]
    return (named[-1] if named else lines[0] if lines else type(error).__name__)[:500]
