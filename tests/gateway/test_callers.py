"""Requests as they come and answers as they go, byte for byte."""

import asyncio
import contextlib

import pytest

from inference_service.gateway.callers import LARGE, UNREAD_BYTES, Request
from tests.gateway.calling import CHUNKED, FIVE, GET, LAST, POST, Wire, echo, hello, its_path, serving, until

READ = 2**18
"""What a loop reads at once at most."""
BODIES = [
    pytest.param(POST + b"content-length: 11\r\n\r\nhello world", id="with a length"),
    pytest.param(CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", id="in chunks"),
    pytest.param(CHUNKED + b"b;a=b\r\nhello world\r\n0\r\nexpires: never\r\n\r\n", id="in chunks with all around"),
]


@pytest.mark.parametrize("sent", BODIES)
async def test_a_body_comes_whole(sent: bytes) -> None:
    async with serving(echo) as served, served.call(sent) as caller:
        assert await caller.answer() == b"hello world"
        caller.say(POST + b"content-length: 0\r\n\r\n" + GET + sent)
        assert [await caller.answer() for _ in range(3)] == [b"", b"", b"hello world"]


@pytest.mark.parametrize("sent", BODIES)
async def test_a_body_comes_whole_byte_by_byte(sent: bytes) -> None:
    wire = Wire(echo)
    for byte in sent + sent:
        wire.say(bytes([byte]))
        await asyncio.sleep(0)
    await until(lambda: len(wire.writes) == 2)
    assert all(said.endswith(b"\r\n\r\nhello world") for said in wire.writes)


async def test_a_request_begins_when_its_body_is_there_if_both_come_together() -> None:
    found = []

    async def answer(request: Request) -> None:
        found.append((request.arrived, request.size))
        await echo(request)

    async with serving(answer) as served, served.call(POST + b"content-length: 5\r\n\r\nhello") as caller:
        await caller.answer()
        caller.say(POST + b"content-length: 5\r\n\r\n")
        await until(lambda: len(found) == 2)
        caller.say(b"hello")
        assert await caller.answer() == b"hello"
    assert found == [(True, 5), (False, 0)]


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/v1/models?a=b?c", "/v1/models", "/v1/models", b"a=b?c"),
        (b"/", "/", "/", b""),
        (b"//x/y", "//x/y", "//x/y", b""),
        (b"/a%2Fb%20%C3%A4?%20", "/a/b ä", "/a%2Fb%20%C3%A4", b"%20"),
        (b"/%ff", "/\ufffd", "/%ff", b""),
        (b"/a#b", "/a", "/a", b""),
        (b"http://host:80/a/b?c", "/a/b", "/a/b", b"c"),
        (b"http://host", "/", "/", b""),
        (b"*", "*", "*", b""),
    ],
)
async def test_what_is_asked_for(target: bytes, path: str, raw_path: str, query: bytes) -> None:
    found = []

    async def answer(request: Request) -> None:
        found.append((request.method, request.path, request.raw_path, request.query, request.headers))
        await hello(request)

    async with serving(answer) as served:
        await served.told(b"PATCH " + target + b" HTTP/1.1\r\nHost:x\r\nEmpty:\r\nConnection: close\r\n\r\n")
    headers = {b"host": b"x", b"empty": b"", b"connection": b"close"}
    assert found == [("PATCH", path, raw_path, query, headers)]


async def test_requests_behind_one_another_are_answered_in_their_order() -> None:
    begun, go_on = [], asyncio.Event()

    async def answer(request: Request) -> None:
        begun.append(request.path)
        if request.path == "/1":
            await go_on.wait()
        await its_path(request)

    three = b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number for number in (1, 2, 3))
    async with serving(answer) as served, served.call(three) as caller:
        await until(lambda: begun)
        await asyncio.sleep(0.02)
        assert begun == ["/1"]
        go_on.set()
        assert [await caller.answer() for _ in range(3)] == [b"/1", b"/2", b"/3"]


async def test_what_comes_behind_a_request_that_is_being_answered_stays_unread() -> None:
    go_on = asyncio.Event()

    async def answer(request: Request) -> None:
        await go_on.wait()
        await its_path(request)

    wire = Wire(answer)
    wire.say(GET)
    assert wire.reads
    wire.say(b"GET /2 HTTP/1.1\r\nhost: x\r\n\r\n")
    assert not wire.reads
    go_on.set()
    await until(lambda: len(wire.writes) == 2)
    assert wire.reads
    assert wire.writes[1].endswith(b"/2")


async def test_a_large_body_that_is_all_there_leaves_its_caller_free_to_hang_up() -> None:
    wire = Wire(lambda _request: asyncio.sleep(0.05))
    wire.say(POST + b"content-length: 100000\r\n\r\n")
    wire.say(b"x" * 100_000)
    assert wire.reads


async def test_a_body_that_nobody_takes_stays_with_its_caller() -> None:
    size, sizes = 8 * 2**20, []

    async def answer(request: Request) -> None:
        sizes.append(0)
        await until(lambda: request.size > UNREAD_BYTES)
        await asyncio.sleep(0.1)
        sizes.append(request.size)
        await echo(request)

    async with serving(answer) as served, served.call(POST + b"content-length: %d\r\n\r\n" % size) as caller:
        await until(lambda: sizes)
        caller.say(b"x" * size)
        assert await caller.answer() == b"x" * size
    assert sizes[1] <= UNREAD_BYTES + READ


async def test_a_body_that_nobody_wants_is_passed_over() -> None:
    async def answer(request: Request) -> None:
        if request.method == "POST":
            await until(lambda: request.size > UNREAD_BYTES)
        await hello(request)

    size = 8 * 2**20
    async with serving(answer) as served, served.call(POST + b"content-length: %d\r\n\r\n" % size) as caller:
        caller.say(b"x" * size + GET)
        assert [await caller.answer() for _ in range(2)] == [b"hello", b"hello"]


ASKS = POST + b"expect: 100-Continue\r\ncontent-length: 10\r\n\r\n"


async def test_who_asks_whether_to_send_a_body_is_told_once_to_go_on() -> None:
    async def answer(request: Request) -> None:
        await asyncio.gather(request.come(), request.come())
        await echo(request)

    async with serving(answer) as served, served.call(ASKS) as caller:
        assert await caller.head() == (100, {})
        caller.say(b"hello")
        await asyncio.sleep(0.02)
        caller.say(b"hello")
        assert await caller.answer() == b"hellohello"


@pytest.mark.parametrize(
    ("sent", "later"),
    [
        pytest.param(ASKS + b"hello", b"hello", id="the body comes already"),
        pytest.param(ASKS + b"hellohello", b"", id="the body is there"),
        pytest.param(ASKS.replace(b"10", b"0"), b"", id="no body"),
        pytest.param(ASKS.replace(b"HTTP/1.1", b"HTTP/1.0"), b"hellohello", id="HTTP/1.0 knows nothing of it"),
    ],
)
async def test_who_need_not_ask_is_not_told(sent: bytes, later: bytes) -> None:
    async def answer(request: Request) -> None:
        await request.come()
        await echo(request)

    async with serving(answer) as served, served.call(sent) as caller:
        await asyncio.sleep(0.02)
        caller.say(later)
        assert (await caller.head())[0] == 200


async def test_who_was_refused_is_not_told_to_go_on() -> None:
    """Nor anything else in the midst of the answer, while what the caller sends all the same is read."""

    async def answer(request: Request) -> None:
        request.head(413, [(b"content-length", b"5"), (b"connection", b"close")])
        request.body(b"large", last=False)
        await request.come()
        request.body(b"", last=True)

    async with serving(answer) as served, served.call(ASKS) as caller:
        assert (await caller.head())[0] == 413
        await asyncio.sleep(0.02)
        caller.say(b"hello")
        assert await caller.rest() == b"large"


@pytest.mark.parametrize(
    ("begun", "others"),
    [
        pytest.param(GET[:-2], [b"\r\n"], id="no body"),
        pytest.param(POST + b"content-length: 5\r\n", [b"\r\nhello"], id="a body"),
        pytest.param(POST + b"content-length: 5\r\n", [b"\r\n", b"hello"], id="a body later"),
        pytest.param(CHUNKED[:-2], [b"\r\n5\r\nhel", b"lo\r\n0\r\n\r\n"], id="chunks"),
    ],
)
async def test_the_wish_for_another_protocol_is_passed_over(begun: bytes, others: list[bytes]) -> None:
    body = b"hello" if begun.startswith(POST) else b""
    async with serving(echo) as served:
        async with served.call(begun + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n") as caller:
            for piece in others:
                await asyncio.sleep(0.02)
                caller.say(piece)
            assert await caller.answer() == body
            once = begun + b"connection: upgrade\r\nUpgrade: x\r\n" + b"".join(others)
            caller.say(once * 3)
            assert [await caller.answer() for _ in range(3)] == [body] * 3
        told = await served.told(begun + b"connection: upgrade, close\r\nupgrade: h2c\r\n" + b"".join(others))
        assert told.endswith(b"connection: close\r\n\r\n" + body)


async def test_an_answer_without_a_length_goes_in_chunks() -> None:
    async def answer(request: Request) -> None:
        request.head(200, [(b"X-Said", b"1")])
        for piece in (b"hello", b"", b" world"):
            request.body(piece, last=False)
        request.body(b"!" if request.path == "/" else b"", last=True)

    expected = b"HTTP/1.1 200 OK\r\nx-said: 1\r\ntransfer-encoding: chunked\r\n%b\r\n5\r\nhello\r\n6\r\n world\r\n"
    async with serving(answer) as served:
        told = await served.told(GET + LAST.replace(b"/ ", b"/x "))
        assert told == expected % b"" + b"1\r\n!\r\n0\r\n\r\n" + expected % b"connection: close\r\n" + b"0\r\n\r\n"
        told = await served.told(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n" + GET)
        assert told == b"HTTP/1.1 200 OK\r\nx-said: 1\r\nconnection: close\r\n\r\nhello world!"


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
@pytest.mark.parametrize("length", [[], [(b"content-length", b"5")]])
async def test_an_answer_that_has_no_body_leaves_its_connection_in_order(
    method: bytes, status: int, length: list[tuple[bytes, bytes]]
) -> None:
    async def answer(request: Request) -> None:
        if request.path == "/":
            await hello(request)
            return
        request.head(status, length)
        request.body(b"hel", last=False)
        request.body(b"lo", last=True)

    async with serving(answer) as served, served.call(method + b" /x HTTP/1.1\r\nhost: x\r\n\r\n") as caller:
        assert await caller.head() == (status, dict(length))
        caller.say(GET)
        assert await caller.reader.readexactly(len(FIVE)) == FIVE


async def test_a_head_goes_out_with_the_beginning_of_its_body_and_a_large_piece_is_not_copied() -> None:
    large = b"x" * (LARGE + 1)

    async def answer(request: Request) -> None:
        request.head(200, [])
        for piece in (b"hello", large):
            await asyncio.sleep(0)
            request.body(piece, last=piece is large)

    wire = Wire(answer)
    wire.say(GET)
    await until(lambda: len(wire.writes) == 4)
    assert wire.writes[0].startswith(b"HTTP/1.1 200 OK")
    assert wire.writes[0].endswith(b"\r\n\r\n5\r\nhello\r\n")
    assert wire.writes[2] is large
    assert wire.writes[1::2] == [b"10001\r\n", b"\r\n0\r\n\r\n"]


@pytest.mark.parametrize("path", [b"/", b"/x"])
async def test_a_large_answer_waits_for_a_slow_caller(path: bytes) -> None:
    piece, pieces, sent = b"x" * (LARGE + 1), 600, 0

    async def answer(request: Request) -> None:
        nonlocal sent
        request.head(200, [] if request.path == "/" else [(b"content-length", b"%d" % (pieces * len(piece)))])
        for _ in range(pieces):
            if request.paused:
                await request.room()
            request.body(piece, last=False)
            sent += 1
        request.body(b"", last=True)

    async with serving(answer) as served, served.call(GET.replace(b"/", path, 1)) as caller:
        await until(lambda: sent)
        await asyncio.sleep(0.05)
        assert sent < pieces, "the rest is not even made"
        assert await caller.answer() == piece * pieces


async def test_who_closes_is_the_caller_or_the_answer() -> None:
    async def answer(request: Request) -> None:
        request.head(200, [(b"content-length", b"0"), (b"Connection", b"Close" if request.path == "/x" else b"other")])
        request.body(b"", last=True)

    told = b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 0\r\n%b\r\n"
    async with serving(answer) as served:
        served.state.default_headers = [(b"date", b"today")]
        for last in (LAST, GET.replace(b"/", b"/x", 1), b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"):
            assert await served.told(GET + last + GET) == told % b"" + told % b"connection: close\r\n"


@pytest.mark.parametrize("harm", [b"a\r\nset-cookie: b", b"a\rb", b"a\nb", b"a\0b"])
@pytest.mark.parametrize("name", [True, False])
async def test_a_header_that_would_begin_another_one_does_not_go_out(harm: bytes, name: bool) -> None:
    async def answer(request: Request) -> None:
        try:
            request.head(200, [(harm, b"x") if name else (b"x", harm)])
        except ValueError:
            if request.path == "/":
                raise
            request.head(500, [(b"content-length", b"5")])
        request.body(b"wrong", last=True)

    async with serving(answer) as served:
        assert await served.told(GET) == b""
        async with served.call(GET.replace(b"/", b"/x", 1)) as caller:
            assert await caller.head() == (500, {b"content-length": b"5"})
            assert await caller.reader.readexactly(5) == b"wrong"


@pytest.mark.parametrize("pieces", [[b"hell"], [b"hello!"], [b""], [b"hel", b""], [b"hel", b"lo!"]])
async def test_an_answer_that_is_not_as_long_as_it_says_never_looks_whole(pieces: list[bytes]) -> None:
    async def answer(request: Request) -> None:
        request.head(200, [(b"content-length", b"5")])
        for piece in pieces[:-1]:
            request.body(piece, last=False)
            await asyncio.sleep(0)
        with contextlib.suppress(RuntimeError):
            request.body(pieces[-1], last=True)

    async with serving(answer) as served:
        told = await served.told(GET + GET)
        assert told == (FIVE[:-2] if len(pieces) == 2 else b"")


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("said", [[], ["head"], ["head", "body"], ["body"]])
async def test_what_is_not_answered_never_looks_whole(said: list[str], raises: bool) -> None:
    async def answer(request: Request) -> None:
        if "head" in said:
            request.head(200, [])
        if "body" in said:
            request.body(b"hello", last=False)
        if raises:
            raise asyncio.CancelledError

    async with serving(answer) as served:
        told = await served.told(GET + GET)
        assert told.endswith(b"5\r\nhello\r\n" if said == ["head", "body"] else b"")
        await served.until_left()


async def test_nothing_is_said_behind_the_end_of_an_answer() -> None:
    """It would be taken for the next one."""

    async def answer(request: Request) -> None:
        request.head(200, [])
        for piece in (b"hel", b"lo", b"!"):
            with contextlib.suppress(RuntimeError):
                request.body(piece, last=piece != b"hel")
            with contextlib.suppress(RuntimeError):
                request.head(500, [])

    async with serving(answer) as served, served.call(GET * 3) as caller:
        assert [await caller.answer() for _ in range(3)] == [b"hello"] * 3
