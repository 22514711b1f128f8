"""Deployments: models that engines serve."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence

from imts_client.awaiting.transport import AsyncTransport
from imts_client.calls import deployments as calls
from imts_client.errors import WaitTimeout
from imts_shared.contracts.deployments import (
    Deployment,
    DeploymentChange,
    DeploymentEvent,
    DeploymentLine,
    DeploymentMetrics,
    DeploymentRequest,
    DeploymentState,
    ModelStatus,
)

LOOK_SECONDS = 0.5


class AsyncDeployments:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, request: DeploymentRequest) -> Deployment:
        """An adapter goes into a running deployment of its base where there is one: that is the answer then."""
        return await self._transport.send(calls.create(request))

    def list(
        self,
        *,
        states: Sequence[DeploymentState | str] = (),
        model: str | None = None,
        labels: Mapping[str, str] | None = None,
        project: str | None = None,
        most: int | None = None,
    ) -> AsyncIterator[Deployment]:
        return self._transport.every(calls.find(states, model, labels, project), most)

    async def get(self, deployment: str) -> Deployment:
        """By id, by name, or by the name of one of its adapters."""
        return await self._transport.send(calls.get(deployment))

    async def change(self, deployment: str, change: DeploymentChange) -> Deployment:
        """What is left out of the change stays."""
        return await self._transport.send(calls.change(deployment, change))

    async def delete(self, deployment: str) -> None:
        await self._transport.send(calls.delete(deployment))

    async def scale(self, deployment: str, replicas: int) -> Deployment:
        return await self._transport.send(calls.scale(deployment, replicas))

    async def stop(self, deployment: str) -> Deployment:
        return await self._transport.send(calls.stop(deployment))

    async def start(self, deployment: str) -> Deployment:
        return await self._transport.send(calls.start(deployment))

    async def add_adapter(self, deployment: str, model: str, *, name: str | None = None) -> Deployment:
        return await self._transport.send(calls.add_adapter(deployment, model, name))

    async def remove_adapter(self, deployment: str, name: str) -> None:
        await self._transport.send(calls.remove_adapter(deployment, name))

    def logs(
        self,
        deployment: str,
        *,
        revision: int | None = None,
        replica: int | None = None,
        most: int | None = None,
    ) -> AsyncIterator[DeploymentLine]:
        return self._transport.every(calls.logs(deployment, revision, replica), most)

    def events(
        self, deployment: str, *, types: Sequence[str] = (), most: int | None = None
    ) -> AsyncIterator[DeploymentEvent]:
        return self._transport.every(calls.events(deployment, types), most)

    async def metrics(self, deployment: str) -> DeploymentMetrics:
        return await self._transport.send(calls.metrics(deployment))

    async def load(self, model: str) -> Deployment:
        """Deploys a model, or starts its deployment."""
        return await self._transport.send(calls.load(model))

    async def unload(self, model: str) -> Deployment:
        return await self._transport.send(calls.unload(model))

    async def status(self, model: str) -> ModelStatus:
        return await self._transport.send(calls.status(model))

    async def wait(self, deployment: str, *, patience: float | None = None) -> Deployment:
        """The deployment once its newest version serves with all its replicas and adapters, or once it has failed or
        stopped."""
        until = None if patience is None else time.monotonic() + patience
        while True:
            found = await self.get(deployment)
            states = [adapter.state for adapter in found.adapters]
            error = found.error is not None
            if calls.rests(found.state, found.revision, found.serving_revision, has_error=error, adapters=states):
                return found
            left = LOOK_SECONDS if until is None else until - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"Deployment {deployment} is still {found.state} after {patience:g} s.")
            await asyncio.sleep(min(LOOK_SECONDS, left))
