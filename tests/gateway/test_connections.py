"""Connections to upstreams, each against a server that says byte for byte what the test wants."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from inference_service.gateway import connections as pool
from inference_service.gateway.connection import HELD_BYTES, Broken, Connection, Unreachable
from inference_service.gateway.connections import Connections, Origin
from tests.gateway.engines import chunk

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ASK = b"POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@asynccontextmanager
async def server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
    writers = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)

    started = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield Origin("127.0.0.1", started.sockets[0].getsockname()[1], tls is not None, inside=True)
    finally:
        started.close()
        for writer in writers:
            writer.transport.abort()


async def asked(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)


def saying(*pieces: bytes, seconds: float = 0.0, then_closes: bool = False) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await asked(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(seconds)
            if then_closes:
                writer.close()
                return

    return handler


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    async with Connections(1.0) as made:
        yield made


async def ask(
    connections: Connections, origin: Origin, enough: Callable[[Connection], int] = lambda _: 2**20
) -> tuple[Connection, int, bytes, bool]:
    connection = await connections.take(origin)
    try:
        connection.ask(ASK, b"{}", enough)
        body = await connection.beginning()
        return connection, connection.status, body, connection.ended
    finally:
        connections.done(origin, connection)


async def test_a_connection_is_used_again(connections: Connections) -> None:
    async with server(saying(WHOLE)) as origin:
        found = [await ask(connections, origin) for _ in range(3)]
    assert [(status, body, ended) for _, status, body, ended in found] == [(200, b"hello", True)] * 3
    assert len({id(connection) for connection, *_ in found}) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(WHOLE + b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad", id="an answer nobody asked for"),
        pytest.param(WHOLE + b"rubbish", id="rubbish behind it"),
        pytest.param(WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), id="its end announced"),
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", id="HTTP/1.0"),
    ],
)
async def test_what_cannot_be_trusted_with_another_question_is_not_asked_one(
    connections: Connections, answer: bytes
) -> None:
    async with server(saying(answer)) as origin:
        for _ in range(3):
            with contextlib.suppress(Broken):
                _, status, body, _ = await ask(connections, origin)
                assert (status, body) == (200, b"hello")
            await asyncio.sleep(0.02)
        assert not connections.idle(origin)


async def test_informational_answers_are_passed_over(connections: Connections) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    async with server(saying(early, WHOLE, seconds=0.01)) as origin:
        connection, status, body, _ = await ask(connections, origin)
    assert (status, body, connection.headers) == (200, b"hello", [])


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"HTTP/1.1 200 OK\r\n", *[b"x-%d: y\r\n" % n * 400 for n in range(400)]], id="headers"),
        pytest.param([b"HTTP/1.1 200 OK\r\nx-long: ", *[b"y" * 4_000] * 100], id="one header"),
        pytest.param([b"HTTP/1.1 103 Early\r\nx: y\r\n\r\n" * 200] * 100, id="informational answers"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", *[b"x" * 4_000] * 100], id="chunk extensions"
        ),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", *[b"t: x\r\n" * 900] * 100],
            id="trailers",
        ),
    ],
)
async def test_what_surrounds_an_answer_has_a_bound(connections: Connections, pieces: list[bytes]) -> None:
    async with server(saying(*pieces)) as origin:
        with pytest.raises(Broken, match="without end"):
            await asyncio.wait_for(ask(connections, origin), 5)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", id="two lengths"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello", id="length and chunks"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", id="a length below zero"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", id="another protocol now"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello", id="less than announced"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel", id="a chunk cut"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", id="a head cut"),
    ],
)
async def test_what_is_no_answer_is_said_so(connections: Connections, answer: bytes) -> None:
    async with server(saying(answer, then_closes=True)) as origin:
        with pytest.raises(Broken) as broken:
            await asyncio.wait_for(ask(connections, origin), 5)
    assert not broken.value.stale


async def test_an_old_connection_that_closes_without_a_byte_is_told_from_an_upstream_that_fails(
    connections: Connections,
) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(WHOLE)
        await asked(reader)
        writer.close()

    async with server(once) as origin:
        await ask(connections, origin)
        with pytest.raises(Broken) as old:
            await ask(connections, origin)
    async with server(saying(then_closes=True)) as origin:
        with pytest.raises(Broken) as fresh:
            await ask(connections, origin)
    assert (old.value.stale, fresh.value.stale) == (True, False)


async def test_an_answer_comes_in_pieces_and_no_faster_than_it_is_taken(connections: Connections) -> None:
    piece = b"x" * 2**16
    sent = 0

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(piece) * 1_000))
        for _ in range(1_000):
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with server(pours) as origin:
        connection = await connections.take(origin)
        connection.ask(ASK, b"{}", lambda _: 1)
        taken = len(await connection.beginning())
        await asyncio.sleep(0.5)
        assert sent < len(piece) * 500, "the rest waits at the upstream"
        assert connection.held <= 2 * HELD_BYTES
        while more := await connection.piece():
            taken += len(more)
        connections.done(origin, connection)
    assert taken == len(piece) * 1_000


EVENTS = [b"data: %d\n\n" % number for number in range(12)]
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def streaming(pause: float, *, cut: bool = False) -> AsyncIterator[Origin]:
    async def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(CHUNKED)
        for event in EVENTS:
            writer.write(chunk(event))
            await asyncio.sleep(pause)
        if cut:
            writer.transport.abort()
        else:
            writer.write(b"0\r\n\r\n")

    async with server(streams) as origin:
        yield origin


@pytest.mark.parametrize("wants", [1, 2, 5, 100])
@pytest.mark.parametrize("pause", [0.0, 0.01])
async def test_pieces_are_passed_on_whole_and_in_order_to_one_that_pauses(
    connections: Connections, wants: int, pause: float
) -> None:
    """The sink says False after every few pieces, and meanwhile more of them come."""
    async with streaming(pause) as origin:
        connection = await connections.take(origin)
        connection.ask(ASK, b"{}", lambda _: 1)
        took = [await connection.beginning()]

        def sink(piece: bytes) -> bool:
            took.append(piece)
            return len(took) % wants != 0

        while connection.held or not connection.ended:
            await connection.pass_to(sink, 1.0)
            await asyncio.sleep(pause * 3)
        connections.done(origin, connection)
        assert connections.idle(origin) == 1
    assert b"".join(took) == b"".join(EVENTS)


async def test_a_silence_ends_what_is_passed_on_and_a_slow_stream_does_not(connections: Connections) -> None:
    async with streaming(0.05) as origin:
        connection = await connections.take(origin)
        connection.ask(ASK, b"{}", lambda _: 1)
        took = [await connection.beginning()]
        await connection.pass_to(lambda piece: took.append(piece) is None, 0.2)
        assert b"".join(took) == b"".join(EVENTS)
        connections.done(origin, connection)
    async with streaming(0.1) as origin:
        connection = await connections.take(origin)
        connection.ask(ASK, b"{}", lambda _: 1)
        await connection.beginning()
        with pytest.raises(TimeoutError):
            await connection.pass_to(lambda _: True, 0.02)
        connections.done(origin, connection)
        assert connections.idle(origin) == 0


async def test_a_stream_that_is_cut_while_it_is_passed_on_is_told(connections: Connections) -> None:
    async with streaming(0.01, cut=True) as origin:
        connection = await connections.take(origin)
        connection.ask(ASK, b"{}", lambda _: 1)
        took = [await connection.beginning()]
        with pytest.raises(Broken):
            await connection.pass_to(lambda piece: took.append(piece) is None, 1.0)
        connections.done(origin, connection)
    assert b"".join(took) == b"".join(EVENTS)


async def test_a_connection_that_is_left_is_closed(connections: Connections) -> None:
    left = asyncio.Event()

    async def listens(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        assert await reader.read() == b""
        left.set()

    async with server(listens) as origin:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(connections, origin), 0.1)
        await asyncio.wait_for(left.wait(), 2)


async def test_idle_connections_are_closed(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.1)
    async with server(saying(WHOLE)) as origin:
        first, *_ = await ask(connections, origin)
        assert connections.idle(origin) == 1
        await asyncio.sleep(0.4)
        assert connections.idle(origin) == 0
        assert first.lost


async def test_who_may_lie_outside_alone_is_not_looked_for_inside(connections: Connections) -> None:
    async with server(saying(WHOLE)) as origin:
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(Unreachable, match="internal address"):
                await connections.take(Origin(host, origin.port, tls=False, inside=False))


async def test_nobody_there(connections: Connections) -> None:
    async with server(saying(WHOLE)) as origin:
        pass
    with pytest.raises(Unreachable):
        await connections.take(origin)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """Signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstream")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    pem.write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, folder / "key.pem")
    return context, pem


async def test_by_tls_whose_certificate_nobody_knows_is_asked_nothing(
    connections: Connections, certificate: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, pem = certificate
    async with server(saying(WHOLE), context) as origin:
        with pytest.raises(Unreachable, match="certificate"):
            await connections.take(origin)
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        async with Connections(2.0) as trusting:
            _, status, body, _ = await ask(trusting, origin)
            assert (status, body) == (200, b"hello")
            with pytest.raises(Unreachable, match="certificate"):
                await trusting.take(Origin("localhost", origin.port, tls=True, inside=True))
