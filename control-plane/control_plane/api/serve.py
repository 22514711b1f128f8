"""Runs the API under uvicorn."""

import gc
from types import FrameType

import uvicorn
from fastapi import FastAPI

from control_plane.api.app import create_app
from control_plane.settings import settings
from imts_shared.service import server


class Server(server.Server):
    """Told to exit, it first ends what would otherwise be waited for: live streams, gateways that wait for news.
    All of them come back."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        context = getattr(self._app.state, "context", None)
        if context is not None:
            context.live.close()
            context.snapshots.close()
            context.lessons.close()


def serve() -> None:
    config = settings()
    app = create_app(config)
    served = uvicorn.Config(
        app,
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
    _collect_garbage_seldom()
    server.serve(Server(served, app))


def _collect_garbage_seldom() -> None:
    """What is loaded now stays for good; with thousands of open streams a full collection would stop them all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
