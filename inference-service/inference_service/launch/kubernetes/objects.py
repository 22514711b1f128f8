"""The two objects that a replica is in a cluster: pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inference_service.engines.starting import Place, Start
from inference_service.keys import Key
from inference_service.settings import EnginePod

Object = dict[str, Any]
PORT = 8000
POD_IP = "$(POD_IP)"
"""Filled in by Kubernetes, so that an engine listens where its pod is reached, by IPv4 or IPv6."""
USER = 10_001
GRACE_SECONDS = 15
CONTAINER = "engine"
DEPLOYMENT, REVISION, REPLICA, LAUNCH = "imts/deployment", "imts/revision", "imts/replica", "imts/launch"
SPEC, NAMED, RANK, RESTARTS = "imts/spec", "imts/served-name", "imts/lora-rank", "imts/restarts"
_NO_RANK = "none"


@dataclass(frozen=True)
class Site:
    """What all engines of a release share."""

    namespace: str
    instance: str
    image: str
    claim: str
    mount: Path
    pod: EnginePod

    @property
    def labels(self) -> dict[str, str]:
        return {
            "app.kubernetes.io/name": "imts-engine",
            "app.kubernetes.io/instance": self.instance,
            "app.kubernetes.io/component": "engine",
            "app.kubernetes.io/part-of": "imts",
            "app.kubernetes.io/managed-by": "imts-inference-worker",
        }


@dataclass(frozen=True)
class About:
    """What a worker that finds the engine later must know of it."""

    named: str
    rank: int | None
    restarts: int


@dataclass(frozen=True)
class Engine:
    """An engine as it shall be; `launch` is what tells it from one of the same replica before it."""

    site: Site
    key: Key
    start: Start
    place: Place
    memory: int
    about: About
    launch: str

    @property
    def name(self) -> str:
        return name_of(self.site.instance, self.key, self.about.named)

    @property
    def spec(self) -> str:
        """The same for two that are to run alike."""
        told = json.dumps([_pod(replace(self, launch="")), self.place.port], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    @property
    def labels(self) -> dict[str, str]:
        return {**_labels(self.site, self.key), LAUNCH: self.launch}


def name_of(instance: str, key: Key, named: str) -> str:
    """A label of DNS: at most 63 characters, a letter first. The name is for people, the digest tells the rest."""
    shown = re.sub(r"[^a-z0-9]+", "-", named.lower())[:20].strip("-")
    digest = hashlib.sha256(f"{instance}/{key.deployment_id}".encode()).hexdigest()[:12]
    return "-".join(["imts", *([shown] if shown else []), digest, f"r{key.revision}", str(key.number)])


def key_of(found: Object) -> Key | None:
    """None where the labels are not ours."""
    labels = found["metadata"].get("labels") or {}
    try:
        return Key(labels[DEPLOYMENT], int(labels[REVISION]), int(labels[REPLICA]))
    except (KeyError, ValueError):
        return None


def about_of(found: Object) -> About | None:
    notes = found["metadata"].get("annotations") or {}
    try:
        rank = None if notes[RANK] == _NO_RANK else int(notes[RANK])
        return About(notes[NAMED], rank, int(notes[RESTARTS]))
    except (KeyError, ValueError):
        return None


def launch_of(found: Object) -> str:
    return str((found["metadata"].get("labels") or {}).get(LAUNCH, ""))


def spec_of(found: Object) -> str:
    return str((found["metadata"].get("annotations") or {}).get(SPEC, ""))


def leaving(found: Object) -> bool:
    return bool(found["metadata"].get("deletionTimestamp"))


def service(engine: Engine) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(engine),
        "spec": {
            "type": "ClusterIP",
            "selector": {LAUNCH: engine.launch, "app.kubernetes.io/instance": engine.site.instance},
            "ports": [{"name": "http", "protocol": "TCP", "port": engine.place.port, "targetPort": "http"}],
        },
    }


def deployment(engine: Engine) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(engine),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 0,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {LAUNCH: engine.launch, "app.kubernetes.io/instance": engine.site.instance}},
            "template": {"metadata": {"labels": engine.labels}, "spec": _pod(engine)},
        },
    }


def address(found: Object) -> str | None:
    """Of a Service, once it has an address."""
    spec = found["spec"]
    host = spec.get("clusterIP")
    if not host or host == "None":
        return None
    return f"http://{f'[{host}]' if ':' in host else host}:{spec['ports'][0]['port']}"


def _labels(site: Site, key: Key) -> dict[str, str]:
    return {
        **site.labels,
        DEPLOYMENT: key.deployment_id,
        REVISION: str(key.revision),
        REPLICA: str(key.number),
    }


def _metadata(engine: Engine) -> Object:
    about = engine.about
    return {
        "name": engine.name,
        "namespace": engine.site.namespace,
        "labels": engine.labels,
        "annotations": {
            SPEC: engine.spec,
            NAMED: about.named,
            RANK: _NO_RANK if about.rank is None else str(about.rank),
            RESTARTS: str(about.restarts),
        },
    }


def _pod(engine: Engine) -> Object:
    site = engine.site
    optional: dict[str, Any] = {
        "nodeSelector": site.pod.node_selector,
        "tolerations": site.pod.tolerations,
        "imagePullSecrets": [{"name": name} for name in site.pod.image_pull_secrets],
        "runtimeClassName": site.pod.runtime_class_name,
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(engine)],
        "volumes": [
            {"name": "home", "persistentVolumeClaim": {"claimName": site.claim}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "tmp", "emptyDir": {}},
        ],
        **{name: value for name, value in optional.items() if value},
    }


def _container(engine: Engine) -> Object:
    port = engine.place.port
    return {
        "name": CONTAINER,
        "image": engine.site.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [_literal(word) for word in engine.start.command],
        "env": _environment(engine.start.environment),
        "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/health", "port": "http"},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 5,
        },
        "resources": _resources(engine),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "home", "mountPath": str(engine.site.mount), "readOnly": True},
            {"name": "memory", "mountPath": "/dev/shm"},  # noqa: S108
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }


def _environment(told: Mapping[str, str]) -> list[Object]:
    """Nothing of the worker's own: what the engine is told, and where it may write."""
    return [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "HOME", "value": "/tmp"},  # noqa: S108
        *({"name": name, "value": _literal(value)} for name, value in sorted(told.items())),
    ]


def _resources(engine: Engine) -> Object:
    asked = {"cpu": str(engine.site.pod.cpu), "memory": str(engine.memory)}
    gpus = len(engine.place.gpus)
    return {"requests": asked, "limits": {engine.site.pod.gpu_resource: str(gpus)}} if gpus else {"requests": asked}


def _literal(word: str) -> str:
    """Kubernetes would fill in $(NAME); a doubled $ stands for itself."""
    return word if word == POD_IP else word.replace("$", "$$")
