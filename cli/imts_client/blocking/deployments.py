"""Deployments: models that engines serve."""

import time
from collections.abc import Iterator, Mapping, Sequence

from imts_client.blocking.transport import Transport
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


class Deployments:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, request: DeploymentRequest) -> Deployment:
        """An adapter goes into a running deployment of its base where there is one: that is the answer then."""
        return self._transport.send(calls.create(request))

    def list(
        self,
        *,
        states: Sequence[DeploymentState | str] = (),
        model: str | None = None,
        labels: Mapping[str, str] | None = None,
        project: str | None = None,
        most: int | None = None,
    ) -> Iterator[Deployment]:
        return self._transport.every(calls.find(states, model, labels, project), most)

    def get(self, deployment: str) -> Deployment:
        """By id, by name, or by the name of one of its adapters."""
        return self._transport.send(calls.get(deployment))

    def change(self, deployment: str, change: DeploymentChange) -> Deployment:
        """What is left out of the change stays."""
        return self._transport.send(calls.change(deployment, change))

    def delete(self, deployment: str) -> None:
        self._transport.send(calls.delete(deployment))

    def scale(self, deployment: str, replicas: int) -> Deployment:
        return self._transport.send(calls.scale(deployment, replicas))

    def stop(self, deployment: str) -> Deployment:
        return self._transport.send(calls.stop(deployment))

    def start(self, deployment: str) -> Deployment:
        return self._transport.send(calls.start(deployment))

    def add_adapter(self, deployment: str, model: str, *, name: str | None = None) -> Deployment:
        return self._transport.send(calls.add_adapter(deployment, model, name))

    def remove_adapter(self, deployment: str, name: str) -> None:
        self._transport.send(calls.remove_adapter(deployment, name))

    def logs(
        self,
        deployment: str,
        *,
        revision: int | None = None,
        replica: int | None = None,
        most: int | None = None,
    ) -> Iterator[DeploymentLine]:
        return self._transport.every(calls.logs(deployment, revision, replica), most)

    def events(
        self, deployment: str, *, types: Sequence[str] = (), most: int | None = None
    ) -> Iterator[DeploymentEvent]:
        return self._transport.every(calls.events(deployment, types), most)

    def metrics(self, deployment: str) -> DeploymentMetrics:
        return self._transport.send(calls.metrics(deployment))

    def load(self, model: str) -> Deployment:
        """Deploys a model, or starts its deployment."""
        return self._transport.send(calls.load(model))

    def unload(self, model: str) -> Deployment:
        return self._transport.send(calls.unload(model))

    def status(self, model: str) -> ModelStatus:
        return self._transport.send(calls.status(model))

    def wait(self, deployment: str, *, patience: float | None = None) -> Deployment:
        """The deployment once its newest version serves with all its replicas and adapters, or once it has failed or
        stopped."""
        until = None if patience is None else time.monotonic() + patience
        while True:
            found = self.get(deployment)
            states = [adapter.state for adapter in found.adapters]
            error = found.error is not None
            if calls.rests(found.state, found.revision, found.serving_revision, has_error=error, adapters=states):
                return found
            left = LOOK_SECONDS if until is None else until - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"Deployment {deployment} is still {found.state} after {patience:g} s.")
            time.sleep(min(LOOK_SECONDS, left))
