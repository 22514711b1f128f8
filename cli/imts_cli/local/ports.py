"""The ports of one copy, and who already sits on one."""

import os
import socket
from pathlib import Path

from imts_cli.local import LocalError

PORTS = {
    "postgres": ("IMTS_POSTGRES_PORT", 15432),
    "valkey": ("IMTS_VALKEY_PORT", 16379),
    "control-plane": ("IMTS_CONTROL_PLANE_PORT", 8080),
    "watcher": ("IMTS_WATCHER_PORT", 8090),
    "training": ("IMTS_TRAINING_PORT", 8001),
    "training-worker": ("IMTS_TRAINING_WORKER_PORT", 8011),
    "gateway": ("IMTS_INFERENCE_PORT", 8004),
    "analyzer": ("IMTS_ANALYZER_PORT", 8002),
    "analyzer-worker": ("IMTS_ANALYZER_WORKER_PORT", 8012),
    "inference-worker": ("IMTS_INFERENCE_WORKER_PORT", 8014),
}
"""All of them below those that a system gives to outgoing connections, which come and go on any of theirs."""
OFFSET = "IMTS_PORT_OFFSET"


def ports_from_environment() -> dict[str, int]:
    offset = _number(OFFSET, os.environ.get(OFFSET) or "0", 0)
    ports = {}
    for service, (variable, standard) in PORTS.items():
        named = os.environ.get(variable)
        ports[service] = _number(variable, named, 1) if named else standard + offset
        if ports[service] > 65_535:
            raise LocalError(f"{OFFSET}={offset} puts {service} on port {ports[service]}: take a smaller one.")
    return ports


def _number(variable: str, text: str, least: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= 65_535:
        raise LocalError(f"{variable}={text} is not a whole number from {least} to 65535.")
    return int(text)


def check_free(service: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            user = user_of(port)
            raise LocalError(
                f"Port {port}, which {service} needs, is in use{f' by {user}' if user else ''}: end that,"
                f" or set {OFFSET} (for example {OFFSET}=100) to run this copy on other ports."
            ) from error


def user_of(port: int) -> str | None:
    """The name and pid of the process that listens there, as far as /proc lets us see."""
    inodes = _listening(port)
    if not inodes:
        return None
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if any(str(entry.readlink()) in inodes for entry in (folder / "fd").iterdir()):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"`{command[:100]}` (process {folder.name})"
        except OSError:
            continue
    return None


def _listening(port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "0A":
                found.add(f"socket:[{fields[9]}]")
    return found
