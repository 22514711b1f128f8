"""One engine in the cluster: made or found again, watched, and taken away."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import TypeVar

from loguru import logger

from inference_service.launch.kubernetes import objects, pods
from inference_service.launch.kubernetes.api import Api, ClusterAway, Taken
from inference_service.launch.kubernetes.lines import Lines
from inference_service.launch.kubernetes.objects import Engine
from inference_service.launch.kubernetes.watch import Watch
from inference_service.launch.launcher import Ended, Told
from inference_service.trouble import CannotServe

TAIL = 200
LOOK_SECONDS = 1.0
SLOW_SECONDS = 5.0
"""What a container waits for is asked for when it takes so long."""
END_SECONDS = 60.0
AWAY = "The cluster's API does not answer: {}"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Cluster:
    """What all engines of this worker share."""

    api: Api
    watch: Watch


class KubernetesEngine:
    """Kubernetes starts a container again by itself, which would hide its falls: the first end of the container or of
    the pod is the engine's end here, and who launched it decides what follows. One that an earlier worker left running
    is taken over as it is."""

    def __init__(self, cluster: Cluster, engine: Engine, told: Told, heard: datetime | None) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.started_at = datetime.now(UTC)
        self.url = ""
        self.running = True
        self._api = cluster.api
        self._watch = cluster.watch
        self._engine = engine
        self._told = told
        self._lines = Lines(cluster.api, told.line, self.tail, heard)
        self._placed = asyncio.Event()
        self._restarts = 0
        self._following: asyncio.Task[None] | None = None
        self._life = asyncio.create_task(self._live(), name=f"engine-{engine.name}")

    @property
    def address(self) -> str:
        return self.url

    async def placed(self) -> None:
        await self._placed.wait()

    async def wait(self) -> Ended:
        return await asyncio.shield(self._life)

    async def memory(self) -> int | None:
        """The cluster's business."""
        return None

    async def leave(self) -> None:
        """It goes on without this worker."""
        self._life.cancel()
        with suppress(asyncio.CancelledError, CannotServe):
            await self._life
        await self._hear_no_more()

    async def end(self) -> None:
        """Returns when its pod is gone. A cluster that does not answer for long is not waited for: what is left there
        is found by the next start of this replica, or as nobody's."""
        await self.leave()
        until = monotonic() + END_SECONDS
        while monotonic() < until:
            try:
                await self._take_away(self._engine.launch)
                break
            except ClusterAway as away:
                logger.bind(engine=self._engine.name, why=str(away)).warning("an engine is not taken away yet")
                await asyncio.sleep(LOOK_SECONDS)
            except CannotServe as trouble:
                logger.bind(engine=self._engine.name, why=trouble.message).error("an engine cannot be taken away")
                break
        self.running = False

    async def _live(self) -> Ended:
        try:
            await self._come_to_be()
            return await self._watch_over()
        finally:
            await self._hear_no_more()

    async def _come_to_be(self) -> None:
        found = await self._persist(self._found)
        if not found:
            await self._persist(self._make)
        while not self.url:
            service = await self._persist(lambda: self._api.service(self._engine.name))
            if service is None:
                raise pods.lost("its Service is gone")
            self.url = objects.address(service) or ""
            if not self.url:
                await asyncio.sleep(LOOK_SECONDS)

    async def _found(self) -> bool:
        """Whether the one that is there is as this one shall be, and none that has fallen."""
        deployment = await self._api.deployment(self._engine.name)
        service = await self._api.service(self._engine.name)
        if deployment is None or service is None or objects.leaving(deployment) or objects.leaving(service):
            return False
        launch = objects.launch_of(deployment)
        if objects.spec_of(deployment) != self._engine.spec or objects.launch_of(service) != launch:
            return False
        pod = pods.newest(await self._watch.of(launch))
        if pod is not None:
            self._restarts = pods.restarts_of(pod) if pods.runs(pod) else 0
            try:
                if isinstance(pods.judged(pod, self._restarts), pods.Fallen):
                    return False
            except CannotServe:
                return False
        self._engine = replace(self._engine, launch=launch)
        self.started_at = _moment(deployment)
        return True

    async def _make(self) -> None:
        """A name is one replica's, so two of it are never there at once."""
        while True:
            before = await self._api.deployment(self._engine.name)
            if before is not None or await self._api.service(self._engine.name) is not None:
                self._told.renewed()
                await self._take_away(objects.launch_of(before) if before is not None else None)
            try:
                await self._api.create_service(objects.service(self._engine))
                self.started_at = _moment(await self._api.create_deployment(objects.deployment(self._engine)))
                return
            except Taken:
                await asyncio.sleep(LOOK_SECONDS)

    async def _take_away(self, launch: str | None) -> None:
        name = self._engine.name
        await self._api.delete_deployment(name)
        await self._api.delete_service(name)
        patience = monotonic() + 2 * objects.GRACE_SECONDS
        while monotonic() < patience:
            left = await self._watch.of(launch) if launch else []
            if not left and await self._api.deployment(name) is None and await self._api.service(name) is None:
                return
            await asyncio.sleep(LOOK_SECONDS)
        logger.bind(engine=name).warning("an engine's pod takes long to end")

    async def _watch_over(self) -> Ended:
        uid = None
        began = monotonic()
        while True:
            there = await self._persist(lambda: self._watch.of(self._engine.launch))
            pod = pods.newest(there)
            if uid is not None and (pod is None or pod["metadata"]["uid"] != uid):
                raise pods.lost("it is gone, or another one was made for it")
            if pod is None:
                await self._tell_why_there_is_none(began)
            else:
                seen = pods.judged(pod, self._restarts)
                if isinstance(seen, pods.Fallen):
                    return await self._last_words(pod, seen)
                if isinstance(seen, pods.Unplaced):
                    self._told.waits(f"The cluster has no room for it yet: {seen.why}", pods.ROOM)
                else:
                    uid = pod["metadata"]["uid"]
                    await self._tell_placed(pod, seen, began)
            await asyncio.sleep(LOOK_SECONDS)

    async def _tell_placed(self, pod: pods.Pod, seen: pods.Placed, began: float) -> None:
        name = pod["metadata"]["name"]
        self._placed.set()
        if seen.runs and self._following is None:
            self._following = asyncio.create_task(self._lines.follow(name), name=f"lines-{name}")
        elif seen.waiting is not None:
            self._told.starts(seen.waiting)
        elif not seen.runs:
            slow = monotonic() - began > SLOW_SECONDS
            with suppress(ClusterAway, CannotServe):
                self._told.starts((await self._api.warning(name) if slow else None) or "its container is made")

    async def _tell_why_there_is_none(self, began: float) -> None:
        """A quota or a policy may keep the cluster from making a pod at all."""
        if monotonic() - began < 2 * LOOK_SECONDS:
            return
        with suppress(ClusterAway):
            deployment = await self._api.deployment(self._engine.name)
            if deployment is None:
                raise pods.lost("its Deployment is gone")
            for condition in (deployment.get("status") or {}).get("conditions") or ():
                if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                    self._told.waits(f"The cluster makes no pod for it: {condition.get('message')}", pods.ROOM)

    async def _last_words(self, pod: pods.Pod, seen: pods.Fallen) -> Ended:
        await self._hear_no_more()
        await self._lines.rest(pod["metadata"]["name"])
        if seen.words:
            self.tail.append(seen.words)
        return seen.ended

    async def _hear_no_more(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _persist(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """A cluster's API that is away ends nothing, nor does one that refuses to tell any more of an engine that runs:
        engines run on without it."""
        said = ""
        while True:
            try:
                return await ask()
            except ClusterAway as away:
                why = AWAY.format(away)
            except CannotServe as refused:
                if not self._placed.is_set():
                    raise
                why = refused.message
            if why != said:
                said = why
                logger.bind(engine=self._engine.name, why=why).warning("nothing is known of an engine")
                if not self._placed.is_set():
                    self._told.starts(why)
            await asyncio.sleep(LOOK_SECONDS)


def _moment(found: objects.Object) -> datetime:
    return datetime.fromisoformat(found["metadata"]["creationTimestamp"])
