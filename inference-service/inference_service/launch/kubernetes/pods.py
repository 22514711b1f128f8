"""What a pod's status says of the engine in it: pure."""

import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imts_shared.contracts.deployments import DeploymentReason
from inference_service.launch.kubernetes.objects import CONTAINER, leaving
from inference_service.launch.launcher import Ended
from inference_service.trouble import CannotServe

Pod = Mapping[str, Any]
IMAGE = "Check IMTS_ENGINE_IMAGE, and imagePullSecrets in IMTS_ENGINE_POD."
PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
_NO_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_DEFINITE = ("not found", "manifest unknown", "does not exist", "denied", "unauthorized", "no match for platform")
"""Words of a registry after which trying again changes nothing."""
_CANNOT_START = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NOT_STARTED = frozenset({"StartError", "ContainerCannotRun"})
ROOM = "Stop another deployment, let it sleep (idleSeconds), or give the cluster more nodes."


@dataclass(frozen=True)
class Unplaced:
    """No node has room for it; the scheduler's words."""

    why: str


@dataclass(frozen=True)
class Placed:
    """On a node, its container runs or is on its way. `waiting` is what it waits for."""

    runs: bool = False
    waiting: str | None = None


@dataclass(frozen=True)
class Fallen:
    ended: Ended
    words: str = ""


def newest(pods: Iterable[Pod]) -> Pod | None:
    """A ReplicaSet makes another when one is lost; one that is on its way out counts no more."""
    there = [pod for pod in pods if not leaving(dict(pod))]
    return max(there, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)


def judged(pod: Pod, restarts_before: int = 0) -> Unplaced | Placed | Fallen:
    """Raises CannotServe for what no waiting mends."""
    status = pod.get("status") or {}
    container = _engine(pod)
    if status.get("phase") == "Failed":
        raise lost(f"{status.get('reason', 'Failed')}: {status.get('message', 'no reason was given')}")
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            if condition.get("reason") in (None, "Unschedulable", "SchedulingGated"):
                return Unplaced(condition.get("message") or "no node was found for it yet")
            raise CannotServe(DeploymentReason.engine_error, f"The cluster cannot place it: {condition.get('message')}")
    if container is None:
        return Placed()
    state = container.get("state") or {}
    if container.get("restartCount", 0) > restarts_before or "terminated" in state:
        return _fallen(container, state)
    waiting = state.get("waiting")
    if waiting is None:
        return Placed(runs="running" in state)
    return _waiting(container, waiting)


def restarts_of(pod: Pod) -> int:
    return int((_engine(pod) or {}).get("restartCount", 0))


def runs(pod: Pod) -> bool:
    return "running" in ((_engine(pod) or {}).get("state") or {})


def ready(pod: Pod) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def lost(why: str) -> CannotServe:
    return CannotServe(
        DeploymentReason.engine_error,
        f"The cluster has taken the engine's pod away: {why}",
        "A node was drained, lost or short of something; `kubectl get events` has more.",
    )


def _engine(pod: Pod) -> Mapping[str, Any] | None:
    """Of what a cluster may have put beside it nothing is told here."""
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((one for one in containers if one.get("name") == CONTAINER), None)


def _fallen(container: Mapping[str, Any], state: Mapping[str, Any]) -> Fallen:
    gone = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    reason, words = gone.get("reason"), str(gone.get("message") or "").strip()
    if reason in _NOT_STARTED:
        raise CannotServe(DeploymentReason.engine_missing, f"The engine cannot be run in its image: {words}", IMAGE)
    code = int(gone.get("exitCode", 1))
    known = gone.get("signal") or (code - 128 if 128 < code < 128 + signal.NSIG else 0)
    return Fallen(
        Ended(-int(known) if known else code, killed_for_memory=reason == "OOMKilled"),
        words=words,
    )


def _waiting(container: Mapping[str, Any], waiting: Mapping[str, Any]) -> Placed:
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message") or "no reason was given")
    image = container.get("image", "")
    no_image = f"The engine's image {image} cannot be had ({reason}): {message}"
    if reason in _NO_IMAGE or (reason in PULLING and any(word in message.lower() for word in _DEFINITE)):
        raise CannotServe(DeploymentReason.engine_missing, no_image, IMAGE)
    if reason in PULLING:
        return Placed(waiting=no_image)
    if reason in _CANNOT_START:
        raise CannotServe(
            DeploymentReason.engine_error, f"The cluster cannot make the engine's container ({reason}): {message}"
        )
    return Placed(waiting=None if reason in ("ContainerCreating", "PodInitializing", "") else f"{reason}: {message}")
