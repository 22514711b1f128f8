"""What makes a process one of several that train together. torchrun's contract is environment variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import psutil
import torch

PATIENCE = timedelta(days=7)
"""A rank that is gone is seen by whoever started it. Until then a long upload, or a freeze, is no reason to fail."""


@dataclass(frozen=True)
class Rank:
    number: int
    count: int
    address: str
    port: int
    local: int
    """Which of the processes that share a machine's folders it is, and which of the GPUs that it sees is its own."""
    local_count: int
    neighbours: int
    """How many share the machine's processors, itself included."""
    interface: str | None = None
    store_is_served: bool = False
    """Whether the store under address and port is there already; otherwise rank 0 opens it."""

    @property
    def variables(self) -> Mapping[str, str]:
        found = {
            "RANK": str(self.number),
            "WORLD_SIZE": str(self.count),
            "LOCAL_RANK": str(self.local),
            "LOCAL_WORLD_SIZE": str(self.local_count),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
            "TORCHELASTIC_USE_AGENT_STORE": str(self.store_is_served),
            "TORCH_NCCL_ENABLE_MONITORING": "0",  # it takes a freeze for a hang
        }
        if self.interface:
            found["GLOO_SOCKET_IFNAME"] = self.interface
        return found


def join(rank: Rank, *, on_gpu: bool) -> None:
    """This process becomes the rank. On GPUs the trainer opens the process group, with its `ddp_timeout`."""
    os.environ.update(rank.variables)
    if on_gpu:
        torch.cuda.set_device(rank.local)
        return
    threads = max(1, _processors() // rank.neighbours)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"  # not cpu:1, which torch.load does not know
    torch.set_num_threads(threads)
    torch.distributed.init_process_group("gloo", timeout=PATIENCE)


def interface_of(address: str) -> str | None:
    """Gloo would ask what the machine's own name resolves to, which often is no address that others reach."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return str(name)
    return None


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
