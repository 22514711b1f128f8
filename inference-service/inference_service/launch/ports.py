"""The port that an engine listens on."""

import socket

from imts_shared.contracts.deployments import DeploymentReason
from inference_service.trouble import CannotServe


def chosen(named: int | None, number: int, taken: set[int]) -> int:
    if named is not None:
        port = named + number
        if port in taken or port > 65_535 or not _free(port):
            raise CannotServe(
                DeploymentReason.port_taken,
                f"Port {port} is taken on this machine.",
                "Name another port, or leave it out and any free one is taken. A new version needs another one than"
                " the running version beside it.",
            )
        return port
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
