"""`python -m <service> api|worker`, the same for every service."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from imts_shared.settings import Settings, SettingsFileError


def main(package: str, processes: Mapping[str, Callable[[], Any]], arguments: list[str]) -> int:
    """A process is imported only when it is asked for, so `processes` holds functions that do so."""
    if len(arguments) != 1 or arguments[0] not in processes:
        sys.stderr.write(f"usage: python -m {package} {'|'.join(processes)}\n")
        return 2
    try:
        processes[arguments[0]]()
    except (ValidationError, SettingsFileError) as error:
        sys.stderr.write(f"The settings are not right: {error}\n")
        return 2
    return 0


def serve(app: str, settings: Settings, port: int) -> None:
    import uvicorn

    from imts_shared.service import server

    config = uvicorn.Config(
        app, host=settings.host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=5
    )
    server.serve(server.Server(config))
