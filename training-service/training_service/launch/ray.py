"""Ranks as actors on a Ray cluster, each with a processor or a GPU of its own, on whatever machines Ray places them.

An actor has nothing of this machine: it gets the claim and the storage's address, and prepares model and data for
itself. This process trains nothing; several times a second it asks each actor what it has to say, sends that on as
its own, and says in return whether there is an order. Actors end with the process that started them.
"""

import fcntl
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any, TypeVar

from imts_shared.contracts.internal import ClaimAnswer, Outcome
from imts_shared.contracts.jobs import Reason
from imts_shared.storage import Storage
from imts_shared.worker.engine import PROGRESS_SECONDS, BadConfig, EngineFailure, EngineJob, Order, Stopped
from training_service.launch.falls import SETTLE_SECONDS, Fall, told

TICK_SECONDS = 0.2
PROBE_SECONDS = 5.0
CONNECT_SECONDS = 60.0
READY_SECONDS = 300.0
"""For an actor to start and to import the frameworks, on a machine that may never have read them."""
END_SECONDS = 10.0
WAIT_SECONDS = 60.0
PAUSE_SHARE = 0.5
OBJECT_STORE_BYTES = 100 * 2**20
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_COLOR_PREFIX": "0", "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "5"}
T = TypeVar("T")


class MemberJob(EngineJob):
    """A job as an actor sees it: what it says is kept until asked for."""

    said: deque[bytes]
    heard: float

    def order(self) -> Order | None:
        """Stands still while the attempt's process is not heard: it may be frozen, and another may be at work."""
        while monotonic() - self.heard > self.claim.lease_seconds * PAUSE_SHARE:
            sleep(TICK_SECONDS)
        return super().order()


@dataclass(frozen=True)
class Parcel:
    """All that an actor needs to know."""

    claim: str
    storage_url: str
    storage_options: dict[str, str]
    options: dict[str, str]
    number: int


class Member:
    """A rank. Ray runs `train` in one thread and everything else in another."""

    def __init__(self, parcel: Parcel) -> None:
        from training_service.frameworks import ready

        ready()
        claim = ClaimAnswer.model_validate_json(parcel.claim)
        self._scratch, self._lock = _own_folder()
        said: deque[bytes] = deque()
        send = (lambda _frame: None) if parcel.number else said.append
        job = MemberJob(claim, lambda: Storage(parcel.storage_url, parcel.storage_options), self._scratch, send)
        job.options = parcel.options
        job.devices = _own_gpus()
        job.said, job.heard = said, monotonic()
        self._job = job
        self._kept: list[Any] = []

    def address(self) -> str:
        import ray

        return str(ray.util.get_node_ip_address())

    def meeting_point(self, count: int) -> int:
        """Opens the store at which the ranks meet, and says at which port."""
        from torch.distributed import TCPStore

        from training_service.launch import ranks

        store = TCPStore(self.address(), 0, count, is_master=True, wait_for_workers=False, timeout=ranks.PATIENCE)
        self._kept.append(store)
        return int(store.port)

    def train(self, number: int, count: int, address: str, port: int, neighbours: int) -> tuple[str, bool]:
        """What it said at its end, and whether it only lost another rank. Its folders and its GPU are its alone, so
        that it is the only one on its machine for all that LLaMA-Factory can see."""
        from training_service import training
        from training_service.launch import ranks

        def meet(arguments: dict[str, Any]) -> None:
            interface = ranks.interface_of(self.address())
            rank = ranks.Rank(number, count, address, port, 0, 1, neighbours, interface, store_is_served=True)
            arguments.setdefault("ddp_timeout", int(ranks.PATIENCE.total_seconds()))
            ranks.join(rank, on_gpu=bool(self._job.devices))

        os.chdir(self._scratch)
        try:
            if number:
                training.assist(self._job, training.prepared(self._job).arguments, meet)
                fall = Fall(Outcome(status="succeeded"))
            else:
                fall = Fall(Outcome(status="succeeded", result=training.train(self._job, meet)))
        except BaseException as error:  # noqa: BLE001
            fall = told(error)
        self._job.flush_progress()
        return fall.outcome.model_dump_json(by_alias=True), fall.after_another

    def exchange(self, order: Order | None) -> list[bytes]:
        self._job.heard = monotonic()
        if order is not None:
            self._job.heed(order)
        self._job.flush_progress(PROGRESS_SECONDS)
        found = []
        with suppress(IndexError):
            while True:
                found.append(self._job.said.popleft())
        return found

    def tidy(self) -> None:
        os.chdir("/")
        shutil.rmtree(self._scratch, ignore_errors=True)


def _own_folder() -> tuple[Path, IO[str]]:
    """A locked folder. Those that nobody holds any more belonged to ranks that were killed."""
    above = Path(tempfile.gettempdir())
    for left in above.glob("imts-rank-*"):
        with suppress(OSError), (left / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="imts-new-rank-"))
    held = (folder / ".lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    return folder.rename(folder.with_name(folder.name.replace("imts-new-", "imts-"))), held


def _own_gpus() -> list[str]:
    import ray

    if not ray.get_gpu_ids():
        return []
    return [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]


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
        _connect(job, address, count, own)
        group, resource = _placed(job, address, count)
        posts = [Post(_member(job, group, resource, number)) for number in range(count)]
        return _followed(job, posts, _started(posts))
    finally:
        _end(posts)
        with suppress(BadConfig):
            _within(END_SECONDS, ray.shutdown, BadConfig("Ray does not let go."))
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


def _no_answer(address: str) -> BadConfig:
    return BadConfig(
        f"No Ray cluster answers at {address}.",
        "Check rayAddress: host:6379 on a node of the cluster, ray://host:10001 from outside it.",
    )


def _within(seconds: float, act: Callable[[], T], too_late: Exception) -> T:
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


def _connect(job: EngineJob, address: str, count: int, own: Path | None) -> None:
    rules = {"namespace": f"imts-{job.id}-{job.attempt}", "log_to_driver": True, "logging_level": "WARNING"}
    if own is not None:
        _connect_own(job, count, own, rules)
        return
    _probe(address)
    _within(CONNECT_SECONDS, lambda: _connect_other(address, rules), _no_answer(address))


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
            f"The Ray cluster at {address} cannot be joined: {_first_line(error)}",
            "The worker and the cluster need the same versions of Ray and Python, and the cluster's token"
            " (RAY_AUTH_TOKEN) in the worker's environment; a ray:// address needs the package ray[client].",
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


def _placed(job: EngineJob, address: str, count: int) -> tuple[Any, str]:
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


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:500]
