"""The gateway's process: one event loop, one door."""

import uvicorn

from imts_shared.logs import start_logging
from inference_service.gateway.app import Gateway
from inference_service.settings import settings

KEEP_ALIVE_SECONDS = 75
"""Longer than callers keep an idle connection for themselves (OpenAI's client: 5 s), so that it is never we who close
one just as it is taken up again."""


def main() -> None:
    config = settings()
    start_logging("gateway", config.log_level, config.log_format)
    uvicorn.run(
        Gateway(config),
        host=config.host,
        port=config.inference_port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=config.gateway_drain_seconds,
        backlog=2048,
    )
