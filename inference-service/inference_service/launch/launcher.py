"""What the worker asks of a launcher: room for an engine, the engine itself, and what became of it."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from imts_shared.contracts.inputs import Device
from inference_service.engines.starting import Place, Start
from inference_service.keys import Key


@dataclass(frozen=True)
class Need:
    """What one replica takes. `memory` tells the bytes, with GPUs and without."""

    key: Key
    gpu: int | None
    memory: Callable[[bool], int]
    siblings: Callable[[], list[Key]]
    """Those of its deployment that do not leave before it is ready."""


@dataclass(frozen=True)
class Offer:
    """What the control plane is told that there is."""

    devices: list[Device]
    gpus_free: int
    memory_bytes: int


@dataclass(frozen=True)
class Ended:
    code: int
    """Negative where a signal ended it."""
    killed_for_memory: bool = False


@dataclass(frozen=True)
class Survivor:
    """An engine that an earlier worker launched and that answers."""

    key: Key
    url: str
    started_at: datetime
    restarts: int
    rank: int | None
    """The largest that an adapter of it may have; None: it takes none."""
    adapters: dict[str, str]
    """What is loaded, and from where."""


class Told(Protocol):
    """Who is told of an engine while it comes to run."""

    @property
    def rank(self) -> int | None:
        """The largest that an adapter of it may have; None: it takes none."""

    @property
    def restarts(self) -> int: ...

    def line(self, encoded: bytes) -> str:
        """As imts_shared.worker.lines encodes it; gives back its text without secrets."""

    def waits(self, message: str, hint: str | None) -> None:
        """There is no room for it yet."""

    def starts(self, message: str) -> None:
        """It has room, and does not run yet."""

    def renewed(self) -> None:
        """What ran of this replica before is not what is wanted, and makes way."""


class Launched(Protocol):
    """An engine on its way or running. `wait` may raise CannotServe where something else than its own end is to tell;
    after `end` nothing of it is left."""

    tail: deque[str]
    started_at: datetime

    @property
    def running(self) -> bool: ...

    @property
    def url(self) -> str:
        """For this worker."""

    @property
    def address(self) -> str:
        """For gateways."""

    async def placed(self) -> None:
        """Until it has room, so that its time to start may be counted."""

    async def wait(self) -> Ended: ...

    async def end(self) -> None: ...

    async def leave(self) -> None:
        """This worker ends; the engine with it, unless the launcher's engines outlive it."""

    async def memory(self) -> int | None: ...


class Launcher(Protocol):
    @property
    def name(self) -> Literal["process", "kubernetes"]: ...

    @property
    def outlives(self) -> bool:
        """Its engines go on without the worker."""

    def offer(self) -> Offer: ...

    async def survivors(self) -> list[Survivor]: ...

    async def tidy(self, held: Callable[[], Iterable[Key]]) -> None:
        """Ends engines that are nobody's; `held` are the replicas that the worker has."""

    def folder(self, key: Key) -> Path:
        """For what the worker writes for this engine; the engine reads it."""

    async def room(self, need: Need, waits: Callable[[str, str | None], None]) -> list[str]:
        """The GPUs, once there is room for it."""

    def give_back(self, key: Key, gpus: list[str]) -> None: ...

    @property
    def cache_gb(self) -> int:
        """Of an engine on the CPU."""

    def place(self, key: Key, name: str, port: int | None, gpus: list[str]) -> Place: ...

    async def launch(self, key: Key, start: Start, place: Place, told: Told) -> Launched: ...

    def left(self, key: Key, place: Place) -> None:
        """It does not run there any more."""
