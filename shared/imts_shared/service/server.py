"""Serving an app by uvicorn, whose own loop wakes ten times a second to see whether it shall end: of several services
that wait for work, this was a good part of all that they did."""

import asyncio
import contextlib
import sys
from types import FrameType

import uvicorn

TICK_SECONDS = 1.0
STARTUP_FAILED = 3


class Server(uvicorn.Server):
    """Wakes once a second, for the date in its answers, and at once when it is told to end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told_to_end = asyncio.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told_to_end.wait(), TICK_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told_to_end.set)


def serve(server: Server) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILED)
