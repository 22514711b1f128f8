"""A rank as an actor of a Ray cluster: all that it says is kept until it is asked for."""

import fcntl
import os
import shutil
import tempfile
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

from imts_shared.contracts.internal import ClaimAnswer, Outcome
from imts_shared.storage import Storage
from imts_shared.worker.engine import PROGRESS_SECONDS, EngineJob, Order
from training_service.launch.falls import Fall, told

TICK_SECONDS = 0.2
PAUSE_SHARE = 0.5


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
