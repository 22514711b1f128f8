"""What runs and whether it answers, asked anew each time."""

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from imts_cli.local import state
from imts_cli.local.home import Home
from imts_cli.local.processes import Record, memory_of_tree
from imts_cli.local.services import answers_ready


def status(home: Home) -> dict[str, Any]:
    found = state.read(home)
    up = found is not None and found.supervisor.alive
    services: list[dict[str, Any]] = []
    if found is not None and up:
        with ThreadPoolExecutor(max_workers=8) as pool:
            services = list(pool.map(_service, found.services))
    ready = found is not None and found.state == "ready" and bool(services)
    return {
        "ready": up and ready and all(service["state"] == "ready" for service in services),
        "url": found.url if found is not None and up else None,
        "gateway_url": next((service["url"] for service in services if service["name"] == "gateway"), None),
        "api_key_file": str(home.admin_key) if home.admin_key.exists() else None,
        "services": services,
    }


def _service(service: state.ServiceState) -> dict[str, Any]:
    alive = service.pid is not None and Record(service.pid, service.started).alive
    return {
        "name": service.name,
        "state": _state(service, alive),
        "pid": service.pid if alive else None,
        "port": service.port,
        "restarts": service.restarts,
        "memoryBytes": memory_of_tree(service.pid) if alive and service.pid is not None else 0,
        "url": service.url,
    }


def _state(service: state.ServiceState, alive: bool) -> str:
    if not alive:
        return "restarting"
    if service.state != "ready":
        return service.state
    answers = answers_ready(service.port) if service.url else _listens(service.port)
    return "ready" if answers else "unready"


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
