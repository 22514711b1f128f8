"""Callers' connections in this process: spoken to byte for byte, and answered as a test wants."""

import asyncio
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from uvicorn import Config
from uvicorn.server import ServerState

from inference_service.gateway.callers import CallerConnection, Request

Answer = Callable[[Request], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
FIVE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Served:
    def __init__(self, port: int, state: ServerState) -> None:
        self.port = port
        self.state = state
        self.alive: weakref.WeakSet[CallerConnection] = weakref.WeakSet()

    @asynccontextmanager
    async def call(self, sent: bytes = b"") -> AsyncIterator["Caller"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        try:
            async with asyncio.timeout(8):
                yield Caller(reader, writer)
        finally:
            writer.transport.abort()

    async def told(self, sent: bytes) -> bytes:
        """All that is said until the connection is closed."""
        async with self.call(sent) as caller:
            return await caller.rest()

    def shut_down(self) -> None:
        for connection in tuple(self.state.connections):
            connection.shutdown()

    async def until_left(self) -> None:
        await until(lambda: not self.state.connections and not self.state.tasks)


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.say = writer.write
        self.drain = writer.drain
        self.hang_up = writer.transport.abort
        self._socket: socket.socket = writer.get_extra_info("socket")

    def reset(self) -> None:
        """Hangs up without an end."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.hang_up()

    async def rest(self) -> bytes:
        return await self.reader.read()

    async def head(self) -> tuple[int, dict[bytes, bytes]]:
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        return int(status.split()[1]), dict(line.split(b": ", 1) for line in lines)

    async def answer(self) -> bytes:
        """The body of the next one, which must be whole."""
        _, headers = await self.head()
        if b"content-length" in headers:
            return await self.reader.readexactly(int(headers[b"content-length"]))
        assert headers[b"transfer-encoding"] == b"chunked"
        parts = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append((await self.reader.readexactly(size + 2))[:-2])
        assert await self.reader.readexactly(2) == b"\r\n"
        return b"".join(parts)


class Wire(asyncio.Transport):
    """A transport for what depends on how bytes are cut."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.reads = True
        self.closed = False
        self.connection = CallerConnection(answer, 5.0, config=configured(5), server_state=ServerState())
        self.connection.connection_made(self)
        self.say = self.connection.data_received

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self

    def setsockopt(self, *_option: int) -> None: ...

    def write(self, data: bytes) -> None:
        assert not self.connection.lost, "uvloop's would raise"
        self.writes.append(data)

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.connection.loop.call_soon(self.connection.connection_lost, None)


def configured(idle_seconds: float) -> Config:
    return Config("", timeout_keep_alive=idle_seconds, log_config=None)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(answer: Answer, *, head_seconds: float = 5, idle_seconds: float = 5) -> AsyncIterator[Served]:
    state = ServerState()
    config = configured(idle_seconds)

    def made() -> CallerConnection:
        connection = CallerConnection(answer, head_seconds, config=config, server_state=state)
        served.alive.add(connection)
        return connection

    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    served = Served(server.sockets[0].getsockname()[1], state)
    try:
        yield served
    finally:
        server.close()
        for task in state.tasks:
            task.cancel()
        served.shut_down()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(8):
        while not condition():
            await asyncio.sleep(0.002)


async def body_of(request: Request) -> bytes:
    body = b""
    while not request.arrived or request.size:
        await request.come()
        body += request.taken()
    return body


def tell(request: Request, body: bytes) -> None:
    request.head(200, [(b"content-length", b"%d" % len(body))])
    request.body(body, last=True)


async def hello(request: Request) -> None:
    tell(request, b"hello")


async def echo(request: Request) -> None:
    tell(request, await body_of(request))


async def its_path(request: Request) -> None:
    tell(request, request.path.encode())
