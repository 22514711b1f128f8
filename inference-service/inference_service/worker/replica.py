"""One replica's life: from what is wanted to an engine that answers, again after each fall, until nobody wants it."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any

from loguru import logger

from imts_shared.contracts.deployments import DeploymentReason, DeploymentState, Phase, Progress
from imts_shared.contracts.serving import AdapterReport, ReplicaReport, WantedDeployment, WantedRevision
from inference_service.keys import Key
from inference_service.launch.launcher import Need, Survivor
from inference_service.trouble import CannotServe
from inference_service.worker.engine_run import EngineRun, Engines

LONGEST_WAIT = 60.0
MOST_FALLS = 5
HEALTHY_SECONDS = 60.0
DRAIN_LEAST_SECONDS = 2.0
"""Gateways hear that it leaves a moment after the worker does."""


class Replica:
    """`run` goes on until `end`; a replica that cannot be tries no more and waits, so that its reason stays known."""

    def __init__(
        self,
        engines: Engines,
        key: Key,
        wanted: WantedDeployment,
        siblings: Callable[[], list[Key]],
        found: Survivor | None = None,
    ) -> None:
        """`siblings` are those of its deployment that do not leave before it is ready. One that was `found` running is
        told as ready until it is known that it cannot be taken over: gateways send to it all the while."""
        self.key = key
        self.wanted = wanted
        self.draining = False
        self.gave_up = False
        self.restarts = found.restarts if found else 0
        self._ending = False
        self._leaving = False
        self._found = found
        self._engines = engines
        self._siblings = siblings
        self._said: dict[str, object] = {"state": DeploymentState.pending}
        self._falls = 0
        self._ready_seconds = 0.0
        self._was_ready = False
        self._run: EngineRun | None = None
        self._gpus: list[str] = []
        self._has_room = False
        self._without_adapters = False
        self._drain_until = 0.0
        self._task = asyncio.create_task(self._live(), name=f"replica-{key.deployment_id}-{key.revision}-{key.number}")

    @property
    def revision(self) -> WantedRevision:
        return next(one for one in self.wanted.revisions if one.number == self.key.revision)

    @property
    def over(self) -> bool:
        return self._task.done()

    def update(self, wanted: WantedDeployment) -> None:
        """What needs no new engine: adapters and time limits. One that leaves keeps the revision that it has."""
        if any(one.number == self.key.revision for one in wanted.revisions):
            self.wanted = wanted

    def drain(self, seconds: float) -> None:
        """No request is sent to it any more; running ones get `seconds`."""
        self.draining = True
        self._drain_until = monotonic() + seconds
        if self._run is None or not self._run.ready:
            self.end()
        else:
            self._drainage = asyncio.create_task(self._drain(), name="drain")

    def resume(self) -> None:
        self.draining = False

    def end(self) -> None:
        if not self._ending:
            self._ending = True
            self._task.cancel()

    def leave(self) -> None:
        """This worker ends, and the engine with it unless the launcher's engines outlive it."""
        self._leaving = not self._ending
        self.end()

    async def ended(self) -> None:
        with suppress(asyncio.CancelledError):
            await self._task

    def report(self) -> ReplicaReport:
        run = self._run
        known: dict[str, object] = {"restarts": self.restarts, "draining": self.draining, **self._said}
        if run is not None:
            known |= run.known(self.wanted.adapters)
        if self._found is not None:
            known |= as_found(self._found)
        return ReplicaReport.model_validate(
            {
                "deployment_id": self.key.deployment_id,
                "revision": self.key.revision,
                "number": self.key.number,
                "gpus": self._gpus,
                **known,
            }
        )

    def progress(self, phase: Phase, message: str | None = None, percent: float | None = None) -> None:
        told = Progress(phase=phase, message=message, percent=percent)
        self._said = {"state": DeploymentState.starting, "progress": told}

    def renewed(self) -> None:
        self._found = None

    def waits(self, message: str, hint: str | None) -> None:
        self._said = {
            "state": DeploymentState.pending,
            "reason": DeploymentReason.no_room,
            "message": message[:4_000],
            "hint": hint,
        }

    def message(self, text: str) -> None:
        self._engines.said.message(self.key.deployment_id, text)

    async def _live(self) -> None:
        try:
            while True:
                try:
                    await self._once()
                except CannotServe as trouble:
                    await self._fell(trouble)
                except Exception as error:  # noqa: BLE001
                    logger.opt(exception=error).error("a replica's life failed")
                    await self._fell(CannotServe(DeploymentReason.engine_error, f"The worker failed: {error}"))
        finally:
            self._leave()

    async def _once(self) -> None:
        """Raises CannotServe when the engine falls, and never returns otherwise."""
        run = EngineRun(self._engines, self, without_adapters=self._without_adapters, found=self._found)
        try:
            await run.prepare()
            if not self._has_room:
                need = Need(self.key, self.revision.gpu, run.needed, self._siblings)
                self._gpus = await self._engines.launcher.room(need, self.waits)
                self._has_room = True
            self._run = run
            await run.serve(self._gpus, self._became_ready)
        finally:
            self._ready_seconds = run.ready_seconds
            self._without_adapters = run.without_adapters
            self._run = None
            if run.launched:
                self._found = None
            leaves = self.draining or self._ending
            self._said = {"state": DeploymentState.stopped if leaves else DeploymentState.starting}
            await _whole(run.close(leaves=self._leaving))

    def _leave(self) -> None:
        """Not between a fall and the next start: who waits for room would have it, and what served be away for good."""
        self._has_room = False
        self._engines.launcher.give_back(self.key, self._gpus)
        self._gpus = []

    def _became_ready(self) -> None:
        self._said = {"state": DeploymentState.ready}
        self._found = None
        self._was_ready = True

    async def _fell(self, trouble: CannotServe) -> None:
        self._falls = 1 if self._ready_seconds >= HEALTHY_SECONDS else self._falls + 1
        self.message(f"Replica {self.key.number} of version {self.key.revision}: {trouble.message}")
        logger.bind(deployment=self.wanted.name, reason=trouble.reason, why=trouble.message).warning("a replica fell")
        late = trouble.reason == DeploymentReason.start_timeout and not self._was_ready
        if trouble.final or late:
            await self._failed(trouble.reason, trouble.message, trouble.hint)
        if self._falls >= MOST_FALLS:
            why = f"It ended {self._falls} times in a row without a minute of health. The last time: {trouble.message}"
            reason = trouble.reason if trouble.reason == DeploymentReason.out_of_memory else DeploymentReason.crash_loop
            await self._failed(reason, why, trouble.hint)
        wait = min(LONGEST_WAIT, 2.0 ** (self._falls - 1))
        self.restarts += 1
        self._said = {
            "state": DeploymentState.starting,
            "reason": trouble.reason,
            "message": f"{trouble.message} It is started again in {wait:g} s."[:4_000],
            "hint": trouble.hint,
        }
        await asyncio.sleep(wait)

    async def _failed(self, reason: DeploymentReason, message: str, hint: str | None) -> None:
        self._said = {
            "state": DeploymentState.failed,
            "reason": reason,
            "message": message[:4_000],
            "hint": hint,
        }
        self._found = None
        self.gave_up = True
        self._leave()
        if self.draining:
            self.end()
        await asyncio.Event().wait()

    async def _drain(self) -> None:
        began = monotonic()
        while self.draining and not self.over:
            now = monotonic()
            run = self._run
            idle = run is None or not run.ready or (run.idle and now - began >= DRAIN_LEAST_SECONDS)
            if idle or now >= self._drain_until:
                self.end()
                return
            await asyncio.sleep(0.5)


def as_found(found: Survivor) -> dict[str, object]:
    """What is told of an engine that this worker has not taken over yet."""
    adapters = [AdapterReport(name=name, state="loaded") for name in found.adapters]
    return {
        "state": DeploymentState.ready,
        "url": found.url,
        "started_at": found.started_at,
        "restarts": found.restarts,
        "adapters": adapters,
    }


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """To its end even if cancelled meanwhile: an engine that is still ending must not be forgotten, or its room and
    its number would be given to another beside it."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
