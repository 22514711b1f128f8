"""A request without an engine waits for one, and a model that sleeps is woken, once for all who wait."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass

from loguru import logger

from inference_service.gateway import metrics
from inference_service.gateway.control_plane import ControlPlane, Declined, Unanswered
from inference_service.gateway.directory import Directory, Model
from inference_service.gateway.errors import Refusal, unavailable
from inference_service.gateway.targets import Target, choose

WAKE_AGAIN_SECONDS = 5.0
RETRY_AFTER_SECONDS = 10


class Waker:
    """One wake at a time for each deployment, shared; asked again only when it still sleeps a while later, as the
    control plane may have put it to sleep anew."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._asked_at: dict[str, float] = {}

    async def wake(self, deployment_id: str) -> None:
        """Raises Declined for all who wait. Shielded: the one who came first may hang up, the others still wait."""
        task = self._under_way.get(deployment_id)
        if task is None:
            if time.monotonic() - self._asked_at.get(deployment_id, -WAKE_AGAIN_SECONDS) < WAKE_AGAIN_SECONDS:
                return
            task = asyncio.create_task(self._ask(deployment_id))
            self._under_way[deployment_id] = task
            task.add_done_callback(lambda done: self._ended(deployment_id, done))
        await asyncio.shield(task)

    async def _ask(self, deployment_id: str) -> None:
        try:
            await self._control_plane.wake(deployment_id)
        except Unanswered as error:
            logger.warning("wake not heard", deployment=deployment_id, problem=str(error))
        else:
            self._asked_at[deployment_id] = time.monotonic()

    def _ended(self, deployment_id: str, task: asyncio.Task[None]) -> None:
        self._under_way.pop(deployment_id, None)
        if not task.cancelled():
            task.exception()


@dataclass(frozen=True)
class Patience:
    """`wake_seconds` for a model that is to come; `settle_seconds` for news when all known engines were tried: one that
    died is still named by the snapshot until its worker has said so."""

    wake_seconds: float
    settle_seconds: float


class Waiting:
    def __init__(self, directory: Directory, waker: Waker, patience: Patience) -> None:
        self._directory = directory
        self._waker = waker
        self._patience = patience

    async def target(self, model: Model, tried: Collection[Target] = ()) -> Target:
        """An engine that answers for the model and was not tried; the common case awaits nothing."""
        begun = time.monotonic()
        while True:
            changed = self._directory.changed
            model = self._directory.again(model)
            found = choose(model.targets, tried)
            if found is not None:
                return found
            bound = self._patience.settle_seconds if model.targets else self._patience.wake_seconds
            left = begun + bound - time.monotonic()
            if left <= 0:
                raise _waited_in_vain(model, bound)
            with metrics.WAITING.track_inprogress():
                if not model.targets:
                    await self._hurry(model)
                await _until(changed, min(left, 1.0))

    async def _hurry(self, model: Model) -> None:
        served = model.served
        if served.state in {"failed", "stopped"}:
            how = "has failed" if served.state == "failed" else "is stopped"
            message = f"The model `{served.name}` {how}: {served.message or 'no reason is known'}"
            raise unavailable(message, f"model_{served.state}", retry_after=None)
        if served.state == "asleep":
            try:
                await self._waker.wake(served.deployment_id)
            except Declined as error:
                message = f"The model `{served.name}` sleeps and could not be woken: {error}"
                raise unavailable(message, "model_asleep", retry_after=RETRY_AFTER_SECONDS) from None


async def _until(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return


def _waited_in_vain(model: Model, seconds: float) -> Refusal:
    name, state = model.served.name, model.served.state
    if model.targets:
        message = f"No engine of the model `{name}` could be reached: try again in a moment."
        return unavailable(message, "model_unreachable", retry_after=2)
    why = f" {model.served.message}" if model.served.message else ""
    still = "asleep" if state == "asleep" else "starting"
    message = f"The model `{name}` is still {still} after {seconds:g} seconds.{why}"
    return unavailable(message, f"model_{still}", retry_after=RETRY_AFTER_SECONDS)
