"""The launcher `process`: engines as children of this worker, on this machine's memory and GPUs."""

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from imts_shared.contracts.deployments import DeploymentReason
from imts_shared.worker.gpus import Gpus
from inference_service import room
from inference_service.engines.environment import clean_environment
from inference_service.engines.starting import Place, Start
from inference_service.keys import Key
from inference_service.launch import ports, process
from inference_service.launch.launcher import Need, Offer, Survivor, Told
from inference_service.settings import InferenceSettings
from inference_service.trouble import CannotServe

LOOK_SECONDS = 1.0


class Machine:
    name: Literal["process"] = "process"
    outlives = False

    def __init__(self, rules: InferenceSettings, gpus: Gpus, budget: int, folder: Path) -> None:
        self._rules = rules
        self._gpus = gpus
        self._room: room.Room[Key] = room.Room(budget)
        self._folder = folder
        self._on_cpu: set[Key] = set()
        self._ports: set[int] = set()

    def offer(self) -> Offer:
        return Offer(self._gpus.devices, self._gpus.free(), self._room.budget)

    async def survivors(self) -> list[Survivor]:
        return []

    async def tidy(self, held: Callable[[], Iterable[Key]]) -> None:
        """No child outlives its worker."""

    def folder(self, key: Key) -> Path:
        folder = self._folder / key.deployment_id / f"{key.revision}-{key.number}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def room(self, need: Need, waits: Callable[[str, str | None], None]) -> list[str]:
        """Memory and GPUs, both or none."""
        devices = len(self._gpus.devices)
        count = (1 if devices else 0) if need.gpu is None else need.gpu
        if count > devices:
            raise CannotServe(
                DeploymentReason.no_room,
                f"It wants {count} GPUs, and this worker has {devices}.",
                "Give `gpu` a smaller value; 0 is the CPU.",
                final=True,
            )
        while True:
            lacks = self._room.taken(need.key, need.memory(count > 0), need.siblings())
            if lacks is not None and not lacks.ever:
                raise room.no_room(lacks)
            if lacks is None:
                mine = await asyncio.to_thread(self._gpus.taken, count)
                if mine is not None:
                    return mine
                self._room.give_back(need.key)
            if lacks is not None:
                waits(lacks.message, lacks.hint)
            else:
                waits(f"It waits for {count} free GPUs.", "Jobs and deployments hold them; end one.")
            await asyncio.sleep(LOOK_SECONDS)

    def give_back(self, key: Key, gpus: list[str]) -> None:
        self._room.give_back(key)
        if gpus:
            self._gpus.give_back(gpus)

    @property
    def cache_gb(self) -> int:
        return self._rules.inference_cache_gb or room.usual_cache_gb(self._room.budget)

    def place(self, key: Key, name: str, port: int | None, gpus: list[str]) -> Place:
        chosen = ports.chosen(port, key.number, self._ports)
        self._ports.add(chosen)
        others = len(self._on_cpu - {key})
        if not gpus:
            self._on_cpu.add(key)
        return Place(
            name=name,
            port=chosen,
            folder=self.folder(key),
            host=self._rules.engine_host,
            gpus=gpus,
            cache_gb=self.cache_gb,
            cores=max(1, _cores() // (others + 1)),
            alone=others == 0,
        )

    async def launch(self, key: Key, start: Start, place: Place, told: Told) -> process.EngineProcess:
        environment = {**clean_environment(), **start.environment}
        host = "127.0.0.1" if place.host == "0.0.0.0" else place.host  # noqa: S104
        url, address = f"http://{host}:{place.port}", f"http://{self._rules.engine_address}:{place.port}"
        return await process.start(start.command, environment, place.folder, told.line, url, address)

    def left(self, key: Key, place: Place) -> None:
        self._on_cpu.discard(key)
        self._ports.discard(place.port)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
