"""Which inference worker a deployment goes to, or why to none: pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from imts_shared.contracts.deployments import DeploymentReason, Engine

GIB = 2**30


@dataclass(frozen=True)
class Need:
    engine: Engine
    replicas: int
    gpu: int | None = None
    memory_bytes: int = 0
    """Of one replica, roughly; 0 where nothing is known."""
    launcher: str | None = None

    def gpus_at(self, gpus: int) -> int:
        """Of one replica, on a worker with so many."""
        return min(1, gpus) if self.gpu is None else self.gpu


@dataclass
class Place:
    """A worker that lives. What is promised to its deployments is taken off already; `sleepers` hold GPUs or memory,
    but may be put to sleep for it."""

    id: str
    launcher: str
    engines: dict[str, str]
    gpus: int
    free_gpus: int
    memory_left: int
    draining: bool = False
    sleepers: int = 0
    deployments: int = 0

    @property
    def counted(self) -> bool:
        """A cluster finds room by itself: of its nodes' memory and GPUs nothing is known here."""
        return self.launcher != "kubernetes"

    def takes(self, need: Need) -> bool:
        return not self.counted or self.free_gpus >= need.gpus_at(self.gpus)

    def give(self, need: Need) -> None:
        gpus = need.gpus_at(self.gpus)
        self.free_gpus -= gpus * need.replicas
        if gpus == 0:
            self.memory_left -= need.memory_bytes * need.replicas
        self.deployments += 1


@dataclass(frozen=True)
class Nowhere:
    reason: DeploymentReason
    message: str


R = DeploymentReason


def choose_place(places: Sequence[Place], need: Need) -> Place | Nowhere:
    """A worker may be given what fits only when others sleep: it asks for that itself. Memory is only guessed here, so
    it decides between workers and bars none; GPUs are counted, so without them a deployment waits."""
    there = [place for place in places if not place.draining]
    if not there:
        return Nowhere(R.no_worker, "No inference worker is there." if not places else "The workers are shutting down.")
    if need.launcher is not None:
        there = [place for place in there if place.launcher == need.launcher]
        if not there:
            return Nowhere(R.no_worker, f"No inference worker launches by {need.launcher!r}.")
    there = [place for place in there if place.engines.get(need.engine, "missing") != "missing"]
    if not there:
        return Nowhere(R.engine_missing, f"No inference worker has the engine {need.engine}, or can install it.")
    owning = [place for place in there if not place.counted or place.gpus >= (need.gpu or 0)]
    if not owning:
        most = max(place.gpus for place in there)
        return Nowhere(R.no_room, f"No inference worker has {need.gpu} GPUs; the largest has {most}.")
    fitting = [place for place in owning if place.takes(need) or place.sleepers]
    if not fitting:
        most = max(place.free_gpus for place in owning)
        asked = need.gpus_at(owning[0].gpus)
        return Nowhere(R.no_room, f"GPUs needed on one worker: {asked}; free on one: {max(0, most)}.")
    return max(fitting, key=lambda place: _rank(place, need))


def _rank(place: Place, need: Need) -> tuple[object, ...]:
    gpus = need.gpus_at(place.gpus)
    whole = not place.counted or place.free_gpus >= gpus * need.replicas
    fits = not place.counted or gpus > 0 or place.memory_left >= need.memory_bytes * need.replicas
    spare = (place.gpus > 0) == (need.gpu != 0)
    installed = place.engines.get(need.engine) == "installed"
    return (place.takes(need), whole, fits, spare, installed, -place.deployments, place.memory_left, place.id)
