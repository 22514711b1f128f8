"""Engines that answer well, and such as misbehave, over real sockets."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from tests.conftest import free_port
from tests.gateway.platform_side import serving

Wire = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Engine:
    """Speaks enough of OpenAI's protocol for its client; counts what it was asked."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.hung_up = asyncio.Event()
        self.running = 0
        self.most_running = 0
        self.pieces = 5
        self.pause = 0.0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.bodies.append(body)
        self.paths.append(request.path)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            asked = orjson.loads(body)
            if asked.get("stream"):
                return await self._stream(request)
            await self.go_on.wait()
            await asyncio.sleep(self.pause)
            return web.json_response(whole(self.name))
        except (asyncio.CancelledError, ConnectionError):
            self.hung_up.set()
            raise
        finally:
            self.running -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(self.pieces):
            await response.write(event(self.name, number))
            await asyncio.sleep(self.pause)
            await self.go_on.wait()
        await response.write(b"data: [DONE]\n\n")
        return response


def event(name: str, number: int) -> bytes:
    choice = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}
    content = {"id": name, "object": "chat.completion.chunk", "created": 1, "model": name, "choices": [choice]}
    return b"data: " + orjson.dumps(content) + b"\n\n"


def whole(name: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"I am {name}."}
    return {
        "id": name,
        "object": "chat.completion",
        "created": 1,
        "model": name,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5},
    }


@asynccontextmanager
async def engine(name: str = "engine") -> AsyncIterator[Engine]:
    here = Engine(name, free_port())
    app = web.Application(client_max_size=100 * 2**20)
    app.router.add_post("/{path:.*}", here.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.2, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", here.port).start()
    try:
        yield here
    finally:
        await runner.cleanup()


@asynccontextmanager
async def wire(behave: Wire) -> AsyncIterator["WireEngine"]:
    """`behave` speaks raw bytes, after the request was read."""
    here = WireEngine()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await read_request(reader)
                here.asked += 1
                await behave(reader, writer)
                if writer.is_closing():
                    return
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    here.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield here
    finally:
        server.close()


class WireEngine:
    url = ""
    asked = 0


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return await reader.readexactly(int(line.partition(b":")[2]))
    return b""


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes so that the other side gets RST, as from a process that died with bytes unread."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def refusing() -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


@contextlib.asynccontextmanager
async def saying(body: bytes, status: int = 200) -> AsyncIterator[tuple[str, list[Any]]]:
    asked: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return web.Response(body=body, status=status, content_type="application/json")

    port = free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with serving(app, port):
        yield f"http://127.0.0.1:{port}", asked


def said(**usage: int) -> bytes:
    return orjson.dumps({"choices": [{"message": {"role": "assistant", "content": "x"}}], "usage": usage})
