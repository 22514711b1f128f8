"""What one machine runs, as data: the supervisor knows no service by name."""

import http.client
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imts_cli.local.home import Home


@dataclass(frozen=True)
class Service:
    name: str
    command: tuple[str, ...]
    port: int
    answers: Callable[[], bool]
    url: str | None = None
    needs_schema: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    death_signal: signal.Signals = signal.SIGKILL
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 8
    stop_order: int = 1
    unprivileged: bool = False
    owns: Path | None = None


@dataclass(frozen=True)
class Step:
    """Something that must succeed once before what needs the schema may start."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All that one `up` brings up; a server outside is not in it."""

    url: str
    servers: tuple[Service, ...]
    steps: tuple[Step, ...]
    services: tuple[Service, ...]
    environment: Mapping[str, str]
    outside: tuple[tuple[str, Callable[[], str | None]], ...] = ()
    """Name of each server that is not ours, and what stands in its way, if anything."""

    @property
    def all(self) -> tuple[Service, ...]:
        return (*self.servers, *self.services)


def answers_ready(port: int, timeout: float = 1) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def http_service(name: str, module: str, role: str, port: int, python: str = sys.executable, **more: object) -> Service:
    return Service(
        name=name,
        command=(python, "-m", module, role),
        port=port,
        answers=lambda: answers_ready(port),
        url=f"http://127.0.0.1:{port}",
        **more,  # type: ignore[arg-type]
    )


def platform_services(ports: Mapping[str, int]) -> tuple[Service, ...]:
    """Stopped by `stop_order`: who takes work first, so that it can still report; who answers last."""
    return (
        http_service("control-plane", "control_plane", "api", ports["control-plane"], needs_schema=True),
        http_service("watcher", "control_plane", "watcher", ports["watcher"], needs_schema=True, stop_order=0),
        http_service("analyzer", "analyzer_service", "api", ports["analyzer"]),
        http_service(
            "analyzer-worker",
            "analyzer_service",
            "worker",
            ports["analyzer-worker"],
            stop_order=0,
            stop_seconds=20,
        ),
        http_service("gateway", "inference_service", "gateway", ports["gateway"]),
        http_service(
            "inference-worker",
            "inference_service",
            "worker",
            ports["inference-worker"],
            stop_order=0,
            stop_seconds=20,
        ),
        *training_services(ports),
    )


def training_services(ports: Mapping[str, int]) -> tuple[Service, ...]:
    """Only where their environment is installed."""
    python = os.environ.get("IMTS_TRAINING_PYTHON")
    if not python:
        return ()
    return (
        http_service("training", "training_service", "api", ports["training"], python),
        http_service(
            "training-worker",
            "training_service",
            "worker",
            ports["training-worker"],
            python,
            stop_order=0,
            stop_seconds=20,
        ),
    )


def platform_steps(home: Home) -> tuple[Step, ...]:
    python = (sys.executable, "-m", "control_plane")
    return (
        Step("migrate", (*python, "migrate")),
        Step("create-admin-key", (*python, "create-admin-key", "--file", str(home.admin_key))),
    )


def platform_environment(
    home: Home, ports: Mapping[str, int], database_url: str, redis_url: str, in_file: frozenset[str]
) -> dict[str, str]:
    """What the services are told. The user's environment and settings file win over what is chosen here."""
    chosen = {
        "IMTS_STORAGE_URL": home.storage.as_uri(),
        "IMTS_CONTROL_PLANE_URL": f"http://127.0.0.1:{ports['control-plane']}",
        "IMTS_ANALYZER_URL": f"http://127.0.0.1:{ports['analyzer']}",
        "IMTS_TRAINING_URL": f"http://127.0.0.1:{ports['training']}",
        "IMTS_INFERENCE_URL": f"http://127.0.0.1:{ports['inference-worker']}",
        "IMTS_ENGINE_INSTALLER": shlex.join([sys.executable, "-m", "imts_cli.bootstrap", "engine"]),
    }
    for variable, secret in (("IMTS_SERVICE_KEY", "service-key"), ("IMTS_SECRET_KEY", "secret-key")):
        if variable not in os.environ and variable not in in_file:
            chosen[variable] = home.secret(secret)
    told = {name: value for name, value in chosen.items() if name not in in_file}
    return {
        **told,
        **os.environ,
        "IMTS_HOME": str(home.root),
        "IMTS_DATABASE_URL": database_url,
        "IMTS_REDIS_URL": redis_url,
        "IMTS_CONTROL_PLANE_PORT": str(ports["control-plane"]),
        "IMTS_WATCHER_PORT": str(ports["watcher"]),
        "IMTS_TRAINING_PORT": str(ports["training"]),
        "IMTS_TRAINING_WORKER_PORT": str(ports["training-worker"]),
        "IMTS_ANALYZER_PORT": str(ports["analyzer"]),
        "IMTS_ANALYZER_WORKER_PORT": str(ports["analyzer-worker"]),
        "IMTS_INFERENCE_PORT": str(ports["gateway"]),
        "IMTS_INFERENCE_WORKER_PORT": str(ports["inference-worker"]),
        "PYTHONUNBUFFERED": "1",
    }
