"""One engine process from its preparation to its end."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from imts_shared.contracts.deployments import DeploymentReason, Engine, Phase
from imts_shared.contracts.serving import WantedAdapter, WantedDeployment, WantedRevision
from inference_service import room
from inference_service.engines import failures, llamacpp, progress, vllm
from inference_service.engines.arguments import Options
from inference_service.engines.environment import VllmEnvironment
from inference_service.engines.speaking import EngineAway, EngineClient
from inference_service.engines.starting import Model, Place, Start
from inference_service.keys import Key
from inference_service.launch.launcher import Ended, Launched, Launcher, Survivor
from inference_service.models.finding import Finder
from inference_service.settings import InferenceSettings
from inference_service.trouble import CannotServe
from inference_service.worker.adapters import Adapters
from inference_service.worker.health import Health, Unhealthy
from inference_service.worker.said import LineSink, Said

LOOK_SECONDS = 2.0
UP_SECONDS = 0.25
FIRST_TOKEN_SECONDS = 120.0
MEMORY_EVERY = 5
HUB_TOKEN = "huggingface"  # noqa: S105


@dataclass
class Engines:
    """What all engines of this worker share."""

    rules: InferenceSettings
    launcher: Launcher
    said: Said
    finder: Finder
    environment: VllmEnvironment


class Owner(Protocol):
    """The replica that a run belongs to, as the run knows it."""

    key: Key
    wanted: WantedDeployment

    @property
    def revision(self) -> WantedRevision: ...

    def progress(self, phase: Phase, message: str | None = None, percent: float | None = None) -> None: ...

    def message(self, text: str) -> None: ...

    def waits(self, message: str, hint: str | None) -> None: ...

    def renewed(self) -> None: ...

    @property
    def restarts(self) -> int: ...


class EngineRun:
    """`prepare`, then `serve`, which raises CannotServe in the end, then `close`, however it ended."""

    def __init__(
        self, engines: Engines, owner: Owner, *, without_adapters: bool, found: Survivor | None = None
    ) -> None:
        """`found`: the engine that may be taken over, if it is as it would be started now."""
        self.without_adapters = without_adapters
        self._found = found
        self._engines = engines
        self._owner = owner
        self._model: Model | None = None
        self._python: Path | None = None
        self._options: Options | None = None
        self.rank: int | None = None
        self._place: Place | None = None
        self._engine: Launched | None = None
        self._client: EngineClient | None = None
        self._health: Health | None = None
        self._sink: LineSink | None = None
        self._adapters = Adapters(engines.finder, owner.message)
        if found is not None:
            self._adapters.take_over(found.adapters)
        self._ready_at: datetime | None = None
        self._ready_since: float | None = None
        self._memory: int | None = None

    @property
    def ready(self) -> bool:
        return self._ready_since is not None

    @property
    def launched(self) -> bool:
        """From then on whatever ran of it before is this run's, or gone."""
        return self._engine is not None

    @property
    def ready_seconds(self) -> float:
        return 0.0 if self._ready_since is None else monotonic() - self._ready_since

    @property
    def idle(self) -> bool:
        return self._health is None or self._health.idle

    def known(self, wanted: list[WantedAdapter]) -> dict[str, Any]:
        return {
            "url": self._engine.address if self._engine and self.ready else None,
            "started_at": self._engine.started_at if self._engine else None,
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
        if self._found is not None:
            self.rank = self._found.rank  # what it was started with cannot be changed, and need not be to serve
        elif revision.engine == Engine.vllm and not self.without_adapters:
            largest = await self._adapters.largest_rank(self._owner.wanted.adapters)
            self.rank = int(revision.engine_args.get("max_lora_rank") or vllm.rank_for(largest))

    def needed(self, on_gpu: bool) -> int:
        assert self._model is not None
        cache_gb = self._engines.launcher.cache_gb
        return room.estimate(self._owner.revision.engine, self._model.path, cache_gb, on_gpu=on_gpu)

    async def serve(self, gpus: list[str], became_ready: Callable[[], None]) -> None:
        self._owner.progress(Phase.launching)
        owner, launcher = self._owner, self._engines.launcher
        self._place = launcher.place(owner.key, owner.wanted.name, owner.revision.port, gpus)
        start = self._start(self._place)
        secrets = list(owner.wanted.secrets.values())
        self._sink = LineSink(self._engines.said, owner.key, self._place.folder / "engine.log", secrets)
        self._engine = await launcher.launch(owner.key, start, self._place, self)
        ending = asyncio.create_task(self._engine.wait(), name="engine-end")
        try:
            await self._beside(ending, self._engine.placed())
            self._client = EngineClient(self._engine.url, owner.wanted.name)
            self._health = Health(self._client)
            await self._beside(ending, self._become_ready())
            became_ready()
            await self._beside(ending, self._watch(), self._keep_adapters())
        except Unhealthy as error:
            raise failures.silent(str(error), self._engine.tail, served=self.ready) from error

    async def close(self, *, leaves: bool) -> None:
        """`leaves`: not the engine shall end, but this worker."""
        self._ready_since = None
        if self._engine is not None and self._engine.running:
            await (self._engine.leave() if leaves else self._engine.end())
        if self._client is not None:
            await self._client.close()
        if self._sink is not None:
            self._sink.close()
        if self._place is not None:
            self._engines.launcher.left(self._owner.key, self._place)

    def line(self, encoded: bytes) -> str:
        assert self._sink is not None
        text = self._sink.take(encoded)
        if not self.ready and (told := progress.told(text)) is not None:
            self._owner.progress(told.phase, told.message, told.percent)
        return text

    def waits(self, message: str, hint: str | None) -> None:
        self._owner.waits(message, hint)

    def starts(self, message: str) -> None:
        if not self.ready:
            self._owner.progress(Phase.launching, message)

    def renewed(self) -> None:
        self._adapters.take_over({})
        self._owner.renewed()

    @property
    def restarts(self) -> int:
        return self._owner.restarts

    def _installs(self, text: str) -> None:
        self._owner.progress(Phase.installing, text)
        self._owner.message(text)

    def _fetches(self, text: str) -> None:
        self._owner.progress(Phase.fetching, text)

    def _start(self, place: Place) -> Start:
        assert self._model is not None
        revision = self._owner.revision
        if revision.engine == Engine.llamacpp:
            return llamacpp.start(self._engines.rules.llama_server, self._model, place, revision.engine_args)
        assert self._python is not None
        assert self._options is not None
        return vllm.start(self._python, self._options, self._model, place, revision.engine_args, self.rank)

    async def _beside(self, ending: "asyncio.Task[Ended]", *work: Coroutine[Any, Any, None]) -> None:
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
        assert self._engine is not None
        looks = 0
        while True:
            if looks % MEMORY_EVERY == 0:
                self._memory = await self._engine.memory()
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
            await self._adapters.match(self._owner.wanted.adapters, self._client, self._model.path, self.rank)

    def _fall(self, ended: Ended) -> CannotServe:
        assert self._engine is not None
        lines = list(self._engine.tail)
        if self.rank is not None and any(failures.LORA_UNKNOWN in line for line in lines):
            self.without_adapters = True
            return CannotServe(DeploymentReason.engine_error, "This kind of model takes no adapters in this engine.")
        trouble = failures.explained(ended.code, lines, killed_for_memory=ended.killed_for_memory, served=self.ready)
        if trouble.reason == DeploymentReason.port_taken and self._owner.revision.port is None:
            return CannotServe(DeploymentReason.engine_error, "Somebody else took the engine's port first.")
        return trouble
