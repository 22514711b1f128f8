"""Runs the API under uvicorn."""

import uvicorn

from control_plane.api.app import create_app
from control_plane.settings import settings


def serve() -> None:
    config = settings()
    uvicorn.run(
        create_app(config),
        host=config.host,
        port=config.control_plane_port,
        log_config=None,
        access_log=False,
        loop="uvloop",
        http="httptools",
        timeout_graceful_shutdown=5,
        server_header=False,
        backlog=4096,
    )
