"""All replicas of this worker."""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import asdict
from time import monotonic

from loguru import logger

from imts_shared.contracts.serving import ReplicaReport, WantedDeployment
from inference_service.keys import Key
from inference_service.launch.launcher import Survivor
from inference_service.worker.engine_run import Engines
from inference_service.worker.reconcile import Do, actions
from inference_service.worker.replica import Replica, as_found


class Shelf:
    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._replicas: dict[Key, Replica] = {}
        self._survivors: dict[Key, Survivor] = {}
        """Found, and not taken over before it is known what is wanted."""
        self._lasting: dict[Key, float] = {}
        """Found and wanted no more: the worker before may have been draining it, so its requests get their time."""

    async def look_around(self) -> None:
        self._survivors = {one.key: one for one in await self._engines.launcher.survivors()}

    def keys(self) -> list[Key]:
        """Of what runs here or may."""
        here = [key for key, replica in self._replicas.items() if not replica.gave_up]
        return here + [key for key, until in self._lasting.items() if until > monotonic()]

    def reports(self) -> list[ReplicaReport]:
        self._forget()
        found = [ReplicaReport.model_validate({**asdict(one.key), **as_found(one)}) for one in self._survivors.values()]
        return [replica.report() for replica in self._replicas.values()] + found

    def match(self, wanted: Iterable[WantedDeployment], gone: Collection[str]) -> None:
        """Begins whatever leads from what is here to what is wanted; nothing here waits for it."""
        by_id = {one.id: one for one in wanted}
        self._forget()
        for key, replica in self._replicas.items():
            if key.deployment_id in by_id:
                replica.update(by_id[key.deployment_id])
        held = {key: replica.draining for key, replica in self._replicas.items()}
        for action in actions(by_id.values(), gone, held):
            logger.bind(do=action.do.value, replica=str(action.key)).info("replica")
            match action.do:
                case Do.end:
                    self._replicas[action.key].end()
                case Do.drain:
                    replica = self._replicas[action.key]
                    replica.drain(by_id.get(action.key.deployment_id, replica.wanted).drain_seconds)
                case Do.resume:
                    self._replicas[action.key].resume()
                case Do.start:
                    self._start(action.key, by_id[action.key.deployment_id])
        lasting = self._lasting | {key: monotonic() + by_id[key.deployment_id].drain_seconds
                                   for key in self._survivors.keys() - self._replicas.keys()
                                   if key.deployment_id in by_id}  # fmt: skip
        self._lasting = {key: until for key, until in lasting.items() if key.deployment_id in by_id}
        self._survivors.clear()

    async def leave(self) -> None:
        """Until nothing here is this worker's any more."""
        for replica in self._replicas.values():
            replica.leave()
        await asyncio.gather(*(replica.ended() for replica in self._replicas.values()))
        self._replicas.clear()

    def _start(self, key: Key, wanted: WantedDeployment) -> None:
        def siblings() -> list[Key]:
            return [
                other
                for other, replica in self._replicas.items()
                if other.deployment_id == key.deployment_id and other != key and not replica.draining
            ]

        self._replicas[key] = Replica(self._engines, key, wanted, siblings, self._survivors.get(key))

    def _forget(self) -> None:
        for key in [key for key, replica in self._replicas.items() if replica.over]:
            del self._replicas[key]
