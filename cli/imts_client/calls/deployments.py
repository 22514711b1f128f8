"""Deployments, their adapters, and models as something that is loaded or not."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imts_client.calls.call import Call, Listing, path, query

if TYPE_CHECKING:
    from imts_shared.contracts.deployments import (
        Deployment,
        DeploymentChange,
        DeploymentEvent,
        DeploymentLine,
        DeploymentMetrics,
        DeploymentRequest,
        ModelStatus,
    )

DEPLOYMENT = "deployments.Deployment"


def create(request: "DeploymentRequest") -> "Call[Deployment]":
    return create_fields(request.model_dump(mode="json", by_alias=True, exclude_unset=True))


def create_fields(fields: Mapping[str, Any]) -> "Call[Deployment]":
    """Not repeatable: the second would be refused, for the name is taken by the first."""
    return Call("POST", path("deployments"), DEPLOYMENT, json=dict(fields))


def find(
    states: Sequence[str] = (),
    model: str | None = None,
    labels: Mapping[str, str] | None = None,
    project: str | None = None,
    limit: int | None = None,
) -> "Listing[Deployment]":
    pairs = [f"{key}={value}" for key, value in (labels or {}).items()]
    params = query(state=list(states), model=model, label=pairs, project=project, limit=limit)
    return Listing(path("deployments"), "deployments.DeploymentPage", DEPLOYMENT, params)


def get(deployment: str) -> "Call[Deployment]":
    return Call("GET", path("deployments", deployment), DEPLOYMENT, repeatable=True)


def change(deployment: str, request: "DeploymentChange") -> "Call[Deployment]":
    return change_fields(deployment, request.model_dump(mode="json", by_alias=True, exclude_unset=True))


def change_fields(deployment: str, fields: Mapping[str, Any]) -> "Call[Deployment]":
    """Repeatable: what is there already is no new version."""
    return Call("PATCH", path("deployments", deployment), DEPLOYMENT, json=dict(fields), repeatable=True)


def delete(deployment: str) -> "Call[None]":
    return Call("DELETE", path("deployments", deployment), repeatable=True)


def scale(deployment: str, replicas: int) -> "Call[Deployment]":
    address = path("deployments", deployment, "scale")
    return Call("POST", address, DEPLOYMENT, json={"replicas": replicas}, repeatable=True)


def stop(deployment: str) -> "Call[Deployment]":
    return Call("POST", path("deployments", deployment, "stop"), DEPLOYMENT, repeatable=True)


def start(deployment: str) -> "Call[Deployment]":
    return Call("POST", path("deployments", deployment, "start"), DEPLOYMENT, repeatable=True)


def add_adapter(deployment: str, model: str, name: str | None = None) -> "Call[Deployment]":
    given = {"model": model, "name": name} if name else {"model": model}
    return Call("POST", path("deployments", deployment, "adapters"), DEPLOYMENT, json=given, repeatable=True)


def remove_adapter(deployment: str, name: str) -> "Call[None]":
    return Call("DELETE", path("deployments", deployment, "adapters", name), repeatable=True)


def logs(
    deployment: str, revision: int | None = None, replica: int | None = None, limit: int | None = None
) -> "Listing[DeploymentLine]":
    params = query(revision=revision, replica=replica, limit=limit)
    address = path("deployments", deployment, "logs")
    return Listing(address, "deployments.DeploymentLines", "deployments.DeploymentLine", params)


def events(deployment: str, types: Sequence[str] = (), limit: int | None = None) -> "Listing[DeploymentEvent]":
    params = query(type=list(types), limit=limit)
    address = path("deployments", deployment, "events")
    return Listing(address, "deployments.DeploymentEvents", "deployments.DeploymentEvent", params)


def metrics(deployment: str) -> "Call[DeploymentMetrics]":
    address = path("deployments", deployment, "metrics")
    return Call("GET", address, "deployments.DeploymentMetrics", repeatable=True)


def load(model: str) -> "Call[Deployment]":
    """Repeatable: it starts what the first one made."""
    return Call("POST", path("models", model, "load"), DEPLOYMENT, repeatable=True)


def unload(model: str) -> "Call[Deployment]":
    return Call("POST", path("models", model, "unload"), DEPLOYMENT)


def status(model: str) -> "Call[ModelStatus]":
    return Call("GET", path("models", model, "status"), "deployments.ModelStatus", repeatable=True)


def rests(state: str, revision: int, serving: int | None, *, has_error: bool, adapters: Collection[str]) -> bool:
    """Nothing more comes by itself: the newest version serves or was given up, its adapters are loaded or cannot be, or
    all of it has failed or stopped, or what is left of it. `adapters` are their states."""
    if state in {"failed", "stopped"} or (state == "degraded" and serving == revision and has_error):
        return True
    return state == "ready" and "pending" not in adapters and (serving == revision or has_error)
