"""The launcher `kubernetes`: what the worker asks for becomes objects of the cluster, which outlive the worker."""

import asyncio
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

from loguru import logger

from inference_service import room
from inference_service.engines.speaking import EngineClient
from inference_service.engines.starting import Place, Start
from inference_service.keys import Key
from inference_service.launch.kubernetes import objects, pods
from inference_service.launch.kubernetes.api import Api, ClusterAway
from inference_service.launch.kubernetes.engine import Cluster, KubernetesEngine
from inference_service.launch.kubernetes.objects import Engine, Object, Site
from inference_service.launch.kubernetes.watch import Watch
from inference_service.launch.launcher import Need, Offer, Survivor, Told
from inference_service.settings import InferenceSettings
from inference_service.trouble import CannotServe

AGAIN_SECONDS = 2.0
PROOF_SECONDS = 20.0


class Kubernetes:
    """Memory and GPUs are the scheduler's business: nothing is counted here, and a pod waits where none has room."""

    name: Literal["kubernetes"] = "kubernetes"
    outlives = True

    def __init__(self, rules: InferenceSettings, api: Api) -> None:
        assert rules.engine_image is not None
        assert rules.engine_claim is not None
        assert rules.volume is not None
        self._rules = rules
        self._site = Site(
            namespace=api.namespace,
            instance=rules.kubernetes_instance,
            image=rules.engine_image,
            claim=rules.engine_claim,
            mount=rules.volume,
            pod=rules.engine_pod,
        )
        self._cluster = Cluster(api, Watch(api, self._site.labels))
        self._folder = rules.volume / "engines" / "pods"
        self._memory: dict[Key, int] = {}

    @property
    def worker_id(self) -> str:
        """The same after each start, so that a worker that comes back finds its lease to be its own."""
        return f"inference-{self._site.namespace}-{self._site.instance}"

    def offer(self) -> Offer:
        return Offer([], 0, int((self._rules.inference_memory_gb or 0) * room.GIB))

    def folder(self, key: Key) -> Path:
        """On the volume, and kept as long as the engine: its container may start again while no worker is there."""
        folder = self._folder / key.deployment_id / f"{key.revision}-{key.number}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def room(self, need: Need, waits: Callable[[str, str | None], None]) -> list[str]:
        """Devices are numbered anew within each container."""
        count = self._site.pod.gpus if need.gpu is None else need.gpu
        self._memory[need.key] = await asyncio.to_thread(need.memory, count > 0)
        return [str(number) for number in range(count)]

    def give_back(self, key: Key, gpus: list[str]) -> None:
        self._memory.pop(key, None)

    @property
    def cache_gb(self) -> int:
        return self._rules.inference_cache_gb or room.MOST_CACHE_GB

    def place(self, key: Key, name: str, port: int | None, gpus: list[str]) -> Place:
        return Place(
            name=name,
            port=port or objects.PORT,
            folder=self.folder(key),
            host=objects.POD_IP,
            gpus=gpus,
            cache_gb=self.cache_gb,
            cores=self._site.pod.cpu,
            alone=False,
        )

    async def launch(self, key: Key, start: Start, place: Place, told: Told) -> KubernetesEngine:
        about = objects.About(place.name, told.rank, told.restarts)
        engine = Engine(self._site, key, start, place, self._memory[key], about, uuid4().hex[:16])
        heard = await asyncio.to_thread(_last_heard, place.folder / "engine.log")
        return KubernetesEngine(self._cluster, engine, told, heard)

    def left(self, key: Key, place: Place) -> None:
        """Nothing was held for it here."""

    async def survivors(self) -> list[Survivor]:
        """Engines of an earlier worker that answer. Until the cluster has told of them nothing is known to be here, so
        it is waited for; what it refuses to tell is said by the first engine that starts."""
        while True:
            try:
                return await self._survivors()
            except ClusterAway as away:
                logger.bind(why=str(away)).warning("the cluster does not answer")
                await asyncio.sleep(AGAIN_SECONDS)
            except CannotServe as trouble:
                logger.bind(why=trouble.message).error("what runs in the cluster is not known")
                return []

    async def _survivors(self) -> list[Survivor]:
        deployments = await self._cluster.api.deployments(self._site.labels)
        services = {one["metadata"]["name"]: one for one in await self._cluster.api.services(self._site.labels)}
        there = await self._cluster.watch.pods()
        asked = []
        for one in deployments:
            service = services.get(one["metadata"]["name"])
            launch = objects.launch_of(one)
            pod = pods.newest(pod for pod in there if objects.launch_of(pod) == launch)
            if service is not None and pod is not None and pods.ready(pod) and not objects.leaving(one):
                asked.append(_proved(one, objects.address(service)))
        return [one for one in await asyncio.gather(*asked) if one is not None]

    async def tidy(self, held: Callable[[], Iterable[Key]]) -> None:
        """Takes away what is this release's and nobody's; `held` are the replicas that the worker has."""
        try:
            api = self._cluster.api
            for found in await api.deployments(self._site.labels):
                if _orphan(found, held()):
                    _tell(found)
                    await api.delete_deployment(found["metadata"]["name"])
            for found in await api.services(self._site.labels):
                if _orphan(found, held()):
                    _tell(found)
                    await api.delete_service(found["metadata"]["name"])
        except (ClusterAway, CannotServe) as error:
            logger.bind(why=str(error)).warning("what nobody wants in the cluster is not taken away")
            return
        await asyncio.to_thread(self._sweep, {key.deployment_id for key in held()})

    async def close(self) -> None:
        await self._cluster.api.close()

    def _sweep(self, kept: set[str]) -> None:
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                if folder.name not in kept:
                    shutil.rmtree(folder, ignore_errors=True)


async def _proved(found: Object, url: str | None) -> Survivor | None:
    key, about = objects.key_of(found), objects.about_of(found)
    if key is None or about is None or url is None:
        return None
    client = EngineClient(url, about.named)
    try:
        if await client.generates(PROOF_SECONDS) is not None:
            return None
        adapters = await client.adapters()
    finally:
        await client.close()
    began = datetime.fromisoformat(found["metadata"]["creationTimestamp"])
    return Survivor(key, url, began, about.restarts, about.rank, adapters)


def _orphan(found: Object, held: Iterable[Key]) -> bool:
    return objects.key_of(found) not in set(held) and not objects.leaving(found)


def _tell(found: Object) -> None:
    logger.bind(kind=found.get("kind"), name=found["metadata"]["name"]).info("nobody wants it: it is taken away")


def _last_heard(log: Path) -> datetime | None:
    """What the worker before this one wrote down of the engine's lines ends there."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 100_000))
            last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
        return datetime.fromisoformat(last.partition(b" ")[0].decode()).astimezone(UTC)
    except (OSError, ValueError):
        return None
