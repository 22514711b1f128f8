"""The gateway's process: one event loop, one door."""

import asyncio
import os
import sys
from functools import partial
from typing import cast

import uvicorn

from imts_shared.logs import start_logging
from imts_shared.service import server
from inference_service.gateway.callers import CallerConnection
from inference_service.settings import settings

KEEP_ALIVE_SECONDS = 75
"""Longer than callers keep an idle connection for themselves (OpenAI's client: 5 s), so that it is never we who close
one just as it is taken up again."""


SWITCH_SECONDS = 0.0005
"""How long a thread beside the loop (writing parts, redacting) may go on while a request waits for the interpreter."""


def main() -> None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from inference_service.gateway.app import Gateway

    config = settings()
    start_logging("gateway", config.log_level, config.log_format)
    sys.setswitchinterval(SWITCH_SECONDS)
    gateway = Gateway(config)
    connection = partial(CallerConnection, gateway.answer, config.gateway_head_seconds)
    served = uvicorn.Config(
        gateway,
        host=config.host,
        port=config.inference_port,
        loop="uvloop",
        http=cast(type[asyncio.Protocol], connection),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=config.gateway_drain_seconds,
        backlog=2048,
    )
    server.serve(server.Server(served))
