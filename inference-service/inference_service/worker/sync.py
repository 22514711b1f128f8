"""The talk with the control plane: what is here, and what shall be."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from time import monotonic

import httpx
from loguru import logger
from pydantic import ValidationError

from imts_shared import __version__
from imts_shared.contracts.deployments import Engine
from imts_shared.contracts.serving import SyncAnswer, SyncRequest
from inference_service.engines import llamacpp
from inference_service.trouble import CannotServe
from inference_service.worker.engine_run import Engines
from inference_service.worker.shelf import Shelf

AWAY_SECONDS = 1.0
TIMEOUT_SECONDS = 10.0
TIDY_SECONDS = 30.0


class Sync:
    """A control plane that is away changes nothing here: engines go on, and what they say waits."""

    def __init__(self, engines: Engines, shelf: Shelf, worker_id: str) -> None:
        rules = engines.rules
        self.worker_id = worker_id
        self._engines = engines
        self._shelf = shelf
        self._host = socket.gethostname()
        self._draining = False
        self._tidied_at = -TIDY_SECONDS
        self._tidying: asyncio.Task[None] | None = None
        self._beat = AWAY_SECONDS
        self._why: str | None = "not asked yet"
        self._http = httpx.AsyncClient(
            base_url=rules.control_plane_url,
            headers={"Authorization": f"Bearer {rules.service_key.get_secret_value()}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        )

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        await self._shelf.look_around()
        while True:
            answer = await self.once()
            if answer is not None:
                self._beat = answer.beat_seconds
                self._shelf.match(answer.deployments, answer.gone)
                self._tidy()
            await sleep(0 if answer is not None and self._engines.said.more else self._beat)

    async def leave(self) -> None:
        """Says that it takes nothing more, ends its engines, and says that they are gone. Of engines that outlive it
        no such thing is said: they are where they are, and gateways go on sending to them."""
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)
        self._draining = not self._engines.launcher.outlives
        await self.once()
        await self._shelf.leave()
        if self._draining:
            await self.once()
        await self._http.aclose()

    def _tidy(self) -> None:
        """Only after an answer has said what is wanted, and not in its way."""
        now = monotonic()
        if now - self._tidied_at >= TIDY_SECONDS and (self._tidying is None or self._tidying.done()):
            self._tidied_at = now
            self._tidying = asyncio.create_task(self._engines.launcher.tidy(self._shelf.keys), name="tidy")

    async def once(self) -> SyncAnswer | None:
        said = self._engines.said
        lines, messages = said.batch()
        offer = await asyncio.to_thread(self._engines.launcher.offer)
        request = SyncRequest(
            worker_id=self.worker_id,
            name=f"inference@{self._host}",
            host=self._host,
            pid=os.getpid(),
            version=__version__,
            launcher=self._engines.launcher.name,
            engines=self._installed(),
            devices=offer.devices,
            gpus_free=offer.gpus_free,
            memory_bytes=offer.memory_bytes,
            draining=self._draining,
            batch=said.number,
            replicas=self._shelf.reports(),
            lines=lines,
            messages=messages,
        )
        try:
            answer = await self._http.post(
                "/internal/deployments/sync",
                content=request.model_dump_json(by_alias=True, exclude_none=True),
                headers={"content-type": "application/json"},
            )
            if not answer.is_success:
                self._missed(f"the control plane answers {answer.status_code}", answer.text[:300])
                return None
            told = SyncAnswer.model_validate_json(answer.content)
        except httpx.TransportError as error:
            self._missed(f"the control plane is not reached: {type(error).__name__} {error}")
            return None
        except ValidationError as error:
            self._missed(f"the control plane's answer is not understood: {error.errors()[0]['msg']}")
            return None
        said.heard()
        if self._why is not None:
            logger.bind(worker=self.worker_id).info("worker is known to the control plane")
            self._why = None
        return told

    def _installed(self) -> dict[Engine, str]:
        try:
            vllm: str = self._engines.environment.state()
        except CannotServe:
            vllm = "missing"
        found = llamacpp.binary(self._engines.rules.llama_server) is not None
        return {Engine.vllm: vllm, Engine.llamacpp: "installed" if found else "missing"}

    def _missed(self, why: str, details: str = "") -> None:
        """Logged once for each cause, however long it lasts."""
        if why != self._why:
            logger.bind(why=why, details=details).warning("sync failed")
        self._why = why
