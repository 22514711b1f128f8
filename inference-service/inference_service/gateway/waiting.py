"""A request without an engine waits for one, and a model that sleeps is woken, once for all who wait."""

import asyncio
import math
import time
from collections.abc import Collection
from dataclasses import dataclass

from loguru import logger

from imts_shared.contracts.serving import ServedModel
from inference_service.gateway import metrics
from inference_service.gateway.control_plane import ControlPlane, Declined, Unanswered
from inference_service.gateway.directory import Directory, Model
from inference_service.gateway.errors import Refusal, unavailable
from inference_service.gateway.speech import can_say
from inference_service.gateway.targets import Offer, Target, choose

WAKE_AGAIN_SECONDS = 5.0
RETRY_AFTER_SECONDS = 10
RATE_LIMITED = "upstream_rate_limited"


class Waker:
    """One wake at a time for each deployment, shared; asked again only when it still sleeps a while later, as the
    control plane may have put it to sleep anew."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._asked_at: dict[str, float] = {}
        self._alone: set[asyncio.Task[None]] = set()

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

    def hurry(self, deployment_id: str) -> None:
        """For the next ones who ask; nobody waits for it."""
        waking = asyncio.create_task(self.wake(deployment_id))
        self._alone.add(waking)
        waking.add_done_callback(self._alone.discard)
        waking.add_done_callback(lambda done: done.cancelled() or done.exception())

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

    async def target(
        self,
        model: Model,
        path: str,
        tried: Collection[Target] = (),
        affinity: int | None = None,
        *,
        patient: bool,
        last_resort: bool = True,
    ) -> Target:
        """An upstream that answers for the model and was not tried; the common case awaits nothing. `patient`: nobody
        else could answer, so that news of other engines are worth waiting for. `last_resort`: nor is there another
        model to be asked, so that an upstream is that rests after a failure."""
        begun = time.monotonic()
        while True:
            changed = self._directory.changed
            model = self._directory.again(model)
            offers = _able(model, path)
            found = choose(model.engines, offers, tried, affinity, last_resort=last_resort)
            if found is not None:
                return found
            if model.served is None:
                raise _no_provider(model, offers, tried, path)
            if model.engines and (seconds := _asked_for(model.engines)) > 0:
                raise _paused(f"Every engine of the model `{model.name}` has asked for a pause.", seconds)
            bound = self._patience.settle_seconds if model.engines else self._patience.wake_seconds
            left = begun + (bound if patient else 0.0) - time.monotonic()
            if not patient and not model.engines and model.served.state == "asleep":
                self._waker.hurry(model.served.deployment_id)
            if left <= 0:
                raise _waited_in_vain(model, model.served, bound if patient else 0.0)
            with metrics.WAITING.track_inprogress():
                if not model.engines:
                    await self._hurry(model.served)
                await _until(changed, min(left, 1.0))

    async def _hurry(self, served: ServedModel) -> None:
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


def _able(model: Model, path: str) -> tuple[Offer, ...]:
    if all(can_say(path, offer.target) for offer in model.offers):
        return model.offers
    return tuple(offer for offer in model.offers if can_say(path, offer.target))


def _no_provider(model: Model, offers: Collection[Offer], tried: Collection[Target], path: str) -> Refusal:
    if not offers and model.offers:
        message = f"No provider of the model `{model.name}` answers at {path}."
        return Refusal(400, message, code="unsupported_endpoint", param="model")
    targets = [offer.target for offer in offers]
    if (seconds := _asked_for([target for target in targets if target not in tried] or targets)) > 0:
        return _paused(f"Every provider of the model `{model.name}` has asked for a pause.", seconds)
    message = f"No provider of the model `{model.name}` could be reached: try again in a moment."
    return unavailable(message, "model_unreachable", retry_after=2)


def _asked_for(targets: Collection[Target]) -> float:
    """Seconds for which all of them want to be left alone."""
    return min((target.closed_until for target in targets), default=0.0) - time.monotonic()


def _paused(message: str, seconds: float) -> Refusal:
    told = {"retry-after": str(math.ceil(seconds))}
    return Refusal(429, message, code=RATE_LIMITED, headers=told)


def _waited_in_vain(model: Model, served: ServedModel, seconds: float) -> Refusal:
    name, state = model.name, served.state
    if model.engines:
        message = f"No engine of the model `{name}` could be reached: try again in a moment."
        return unavailable(message, "model_unreachable", retry_after=2)
    why = f" {served.message}" if served.message else ""
    still = "asleep" if state == "asleep" else "starting"
    waited = f" after {seconds:g} seconds" if seconds else ""
    message = f"The model `{name}` is still {still}{waited}.{why}"
    return unavailable(message, f"model_{still}", retry_after=RETRY_AFTER_SECONDS)
