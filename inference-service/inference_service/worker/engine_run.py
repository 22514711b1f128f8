"""One engine process from its preparation to its end."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import psutil

from imts_shared.contracts.deployments import DeploymentReason, Engine, Phase
from imts_shared.contracts.serving import WantedAdapter, WantedDeployment, WantedRevision
from imts_shared.worker.gpus import Gpus
from imts_shared.worker.memory import oom_kills
from inference_service import room
from inference_service.engines import failures, llamacpp, progress, vllm
from inference_service.engines.arguments import Options
from inference_service.engines.environment import VllmEnvironment
from inference_service.engines.speaking import EngineAway, EngineClient
from inference_service.engines.starting import Model, Place, Start
from inference_service.launch import ports, process
from inference_service.models.finding import Finder
from inference_service.settings import InferenceSettings
from inference_service.trouble import CannotServe
from inference_service.worker.adapters import Adapters
from inference_service.worker.health import Health, Unhealthy
from inference_service.worker.reconcile import Key
from inference_service.worker.said import LineSink, Said

LOOK_SECONDS = 2.0
UP_SECONDS = 0.25
FIRST_TOKEN_SECONDS = 120.0
MEMORY_EVERY = 5
MEMORY_STEP = 16 * 2**20
"""A change that is smaller is no news."""
HUB_TOKEN = "huggingface"  # noqa: S105


@dataclass
class Engines:
    """What all engines of this worker share."""

    rules: InferenceSettings
    gpus: Gpus
    room: room.Room[Key]
    said: Said
    finder: Finder
    environment: VllmEnvironment
    folder: Path
    on_cpu: set[Key] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)


class Owner(Protocol):
    """The replica that a run belongs to, as the run knows it."""

    key: Key
    wanted: WantedDeployment

    @property
    def revision(self) -> WantedRevision: ...

    def progress(self, phase: Phase, message: str | None = None, percent: float | None = None) -> None: ...

    def message(self, text: str) -> None: ...


class EngineRun:
    """`prepare`, then `serve`, which raises CannotServe in the end, then `close`, however it ended."""

    def __init__(self, engines: Engines, owner: Owner, *, without_adapters: bool) -> None:
        self.without_adapters = without_adapters
        self._engines = engines
        self._owner = owner
        self._model: Model | None = None
        self._python: Path | None = None
        self._options: Options | None = None
        self._rank: int | None = None
        self._process: process.EngineProcess | None = None
        self._client: EngineClient | None = None
        self._health: Health | None = None
        self._sink: LineSink | None = None
        self._adapters = Adapters(engines.finder, owner.message)
        self._port = 0
        self._started_at: datetime | None = None
        self._ready_at: datetime | None = None
        self._ready_since: float | None = None
        self._memory: int | None = None
        self._oom_kills = 0

    @property
    def ready(self) -> bool:
        return self._ready_since is not None

    @property
    def ready_seconds(self) -> float:
        return 0.0 if self._ready_since is None else monotonic() - self._ready_since

    @property
    def idle(self) -> bool:
        return self._health is None or self._health.idle

    def known(self, wanted: list[WantedAdapter]) -> dict[str, Any]:
        return {
            "url": f"http://{self._engines.rules.engine_address}:{self._port}" if self.ready else None,
            "started_at": self._started_at,
            "ready_at": self._ready_at,
            "memory_bytes": self._memory,
            "last_used_at": self._health.last_used_at if self._health else None,
            "metrics": self._health.metrics if self._health else {},
            "adapters": self._adapters.reports(wanted),
        }

    async def prepare(self) -> None:
        """Everything that takes no room: the engine's environment, its arguments, the model's files."""
        revision = self._owner.revision
        if revision.engine == Engine.vllm:
            self._owner.progress(Phase.installing)
            self._python, self._options = await self._engines.environment.ready(self._installs)
            vllm.check(self._options, revision.engine_args)
        elif llamacpp.binary(self._engines.rules.llama_server) is None:
            raise llamacpp.MISSING
        self._owner.progress(Phase.fetching, revision.model.named)
        token = self._owner.wanted.secrets.get(HUB_TOKEN)
        self._model = await self._engines.finder.model(revision.model, token, self._fetches)
        if revision.engine == Engine.vllm and not self.without_adapters:
            largest = await self._adapters.largest_rank(self._owner.wanted.adapters)
            self._rank = int(revision.engine_args.get("max_lora_rank") or vllm.rank_for(largest))

    def needed(self, *, on_gpu: bool) -> int:
        assert self._model is not None
        return room.estimate(self._owner.revision.engine, self._model.path, self._cache_gb, on_gpu=on_gpu)

    async def serve(self, gpus: list[str], became_ready: Callable[[], None]) -> None:
        self._owner.progress(Phase.launching)
        self._oom_kills = oom_kills()
        start = self._start(gpus)
        secrets = list(self._owner.wanted.secrets.values())
        self._sink = LineSink(self._engines.said, self._owner.key, self._folder / "engine.log", secrets)
        self._started_at = datetime.now(UTC)
        self._process = await process.start(start.command, start.environment, self._folder, self._line)
        self._client = EngineClient(self._url, self._owner.wanted.name)
        self._health = Health(self._client)
        ending = asyncio.create_task(self._process.wait(), name="engine-end")
        try:
            await self._beside(ending, self._become_ready())
            became_ready()
            await self._beside(ending, self._watch(), self._keep_adapters())
        except Unhealthy as error:
            raise failures.silent(str(error), self._process.tail, served=self.ready) from error

    async def close(self) -> None:
        self._ready_since = None
        if self._process is not None and self._process.running:
            await self._process.end()
        if self._client is not None:
            await self._client.close()
        if self._sink is not None:
            self._sink.close()
        self._engines.on_cpu.discard(self._owner.key)
        self._engines.ports.discard(self._port)

    @property
    def _url(self) -> str:
        """For this worker, which the engine is a child of."""
        host = self._engines.rules.engine_host
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self._port}"  # noqa: S104

    @property
    def _cache_gb(self) -> int:
        return self._engines.rules.inference_cache_gb or room.usual_cache_gb(self._engines.room.budget)

    @property
    def _folder(self) -> Path:
        key = self._owner.key
        folder = self._engines.folder / key.deployment_id / f"{key.revision}-{key.number}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _installs(self, text: str) -> None:
        self._owner.progress(Phase.installing, text)
        self._owner.message(text)

    def _fetches(self, text: str) -> None:
        self._owner.progress(Phase.fetching, text)

    def _start(self, gpus: list[str]) -> Start:
        assert self._model is not None
        revision = self._owner.revision
        self._port = ports.chosen(revision.port, self._owner.key.number, self._engines.ports)
        self._engines.ports.add(self._port)
        others = len(self._engines.on_cpu - {self._owner.key})
        if not gpus:
            self._engines.on_cpu.add(self._owner.key)
        place = Place(
            name=self._owner.wanted.name,
            port=self._port,
            folder=self._folder,
            host=self._engines.rules.engine_host,
            gpus=gpus,
            cache_gb=self._cache_gb,
            cores=max(1, _cores() // (others + 1)),
            alone=others == 0,
        )
        if revision.engine == Engine.llamacpp:
            return llamacpp.start(self._engines.rules.llama_server, self._model, place, revision.engine_args)
        assert self._python is not None
        assert self._options is not None
        return vllm.start(self._python, self._options, self._model, place, revision.engine_args, self._rank)

    def _line(self, encoded: bytes) -> str:
        assert self._sink is not None
        text = self._sink.take(encoded)
        if not self.ready and (told := progress.told(text)) is not None:
            self._owner.progress(told.phase, told.message, told.percent)
        return text

    async def _beside(self, ending: "asyncio.Task[int]", *work: Coroutine[Any, Any, None]) -> None:
        """Until the first of the work is done, or the engine has ended."""
        tasks = [asyncio.create_task(one) for one in work]
        try:
            done, _ = await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if ending in done:
                raise self._fall(ending.result())
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _become_ready(self) -> None:
        assert self._client is not None
        assert self._health is not None
        seconds = self._owner.revision.start_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                while not await self._client.up():  # noqa: ASYNC110
                    await asyncio.sleep(UP_SECONDS)
                self._owner.progress(Phase.warming)
                await self._health.first(FIRST_TOKEN_SECONDS)
                await self._match_adapters()
        except TimeoutError as error:
            raise CannotServe(
                DeploymentReason.start_timeout,
                f"The engine was not ready within {seconds} s (startTimeoutSeconds).",
                "Give it more time, or see the log for what it is busy with.",
            ) from error
        self._ready_at = datetime.now(UTC)
        self._ready_since = monotonic()

    async def _watch(self) -> None:
        assert self._health is not None
        looks = 0
        while True:
            if looks % MEMORY_EVERY == 0:
                self._memory = await asyncio.to_thread(self._used)
            await self._health.look()
            await asyncio.sleep(LOOK_SECONDS)
            looks += 1

    async def _keep_adapters(self) -> None:
        while True:
            await self._match_adapters()
            await asyncio.sleep(UP_SECONDS)

    async def _match_adapters(self) -> None:
        assert self._client is not None
        assert self._model is not None
        with suppress(EngineAway):  # its health is looked after elsewhere
            await self._adapters.match(self._owner.wanted.adapters, self._client, self._model.path, self._rank)

    def _used(self) -> int | None:
        """What they share is divided among them."""
        assert self._process is not None
        try:
            engine = psutil.Process(self._process.pid)
            members = [engine, *engine.children(recursive=True)]
            used = sum(int(one.memory_full_info().pss) for one in members)
            return -(-used // MEMORY_STEP) * MEMORY_STEP
        except (psutil.Error, AttributeError, OSError):
            return None

    def _fall(self, code: int) -> CannotServe:
        assert self._process is not None
        lines = list(self._process.tail)
        if self._rank is not None and any(failures.LORA_UNKNOWN in line for line in lines):
            self.without_adapters = True
            return CannotServe(DeploymentReason.engine_error, "This kind of model takes no adapters in this engine.")
        trouble = failures.explained(code, lines, killed_for_memory=oom_kills() > self._oom_kills, served=self.ready)
        if trouble.reason == DeploymentReason.port_taken and self._owner.revision.port is None:
            return CannotServe(DeploymentReason.engine_error, "Somebody else took the engine's port first.")
        return trouble


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
