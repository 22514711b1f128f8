"""Callers who say what is no request, too much of it, too little, or nothing any more; and how connections end."""

import asyncio
import contextlib
import gc
import select
import socket
from time import monotonic as now

import pytest

from inference_service.gateway.callers import HANG_UP_SECONDS, HEAD_BYTES, MOST_WAITING, Request
from inference_service.gateway.requests import CallerGone
from tests.gateway.calling import CHUNKED, FIVE, GET, LAST, POST, Answer, Wire, echo, hello, serving, tell, until

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x16\x03\x01\x00\xee", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n", id="a path that is not ASCII"),
        pytest.param(b"GET x HTTP/1.1\r\n\r\n", id="no path"),
        pytest.param(b"CONNECT x:443 HTTP/1.1\r\n\r\n", id="a tunnel"),
        pytest.param(b"CONNECT /x HTTP/1.1\r\n\r\n", id="a tunnel to a path"),
        pytest.param(b"GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n", id="a header in two lines"),
        pytest.param(b"GET / HTTP/1.1\r\nx: a\rb\r\n\r\n", id="CR in a header"),
        pytest.param(b"GET / HTTP/1.1\r\nx: a\0b\r\n\r\n", id="NUL in a header"),
        pytest.param(b"GET / HTTP/1.1\nx: a\n\n", id="lines without CR"),
        pytest.param(POST + b"content-length: 0\r\ncontent-length: 34\r\n\r\n", id="two lengths"),
        pytest.param(POST + b"content-length: 34\r\ncontent-length: 34\r\n\r\n", id="one length twice"),
        pytest.param(POST + b"content-length: 34, 0\r\n\r\n", id="two lengths in one"),
        pytest.param(POST + b"content-length: +34\r\n\r\n", id="a length with a sign"),
        pytest.param(POST + b"content-length:\r\n\r\n", id="an empty length"),
        pytest.param(POST + b"content-length : 34\r\n\r\n", id="a space behind a name"),
        pytest.param(POST + b"content-length: 34\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="length, chunks"),
        pytest.param(POST + b"transfer-encoding: chunked\r\ncontent-length: 34\r\n\r\n0\r\n\r\n", id="chunks, length"),
        pytest.param(POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="chunks within"),
        pytest.param(POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", id="nearly chunks"),
        pytest.param(POST + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n", id="chunks behind a control"),
        pytest.param(CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n", id="a size that is none"),
        pytest.param(CHUNKED + b"1\r\nxx\r\n0\r\n\r\n", id="a chunk larger than it says"),
        pytest.param(CHUNKED + b"1\nx\n0\n\n", id="chunks without CR"),
        pytest.param(CHUNKED + b"10000000000000001\r\nx\r\n0\r\n\r\n", id="a size beyond 64 bits"),
        pytest.param(CHUNKED + b"0\r\ncontent-length: 34\r\n\r\n", id="a length behind the body"),
    ],
)
async def test_what_is_no_request_is_told_so_and_nothing_behind_it_is_one(sent: bytes) -> None:
    async with serving(hello) as served:
        told = await served.told(sent + SMUGGLED)
        assert told.startswith(b"HTTP/1.1 400 ")
        assert b"invalid_http" in told
        assert told.count(b"HTTP/1.1") == 1
        assert (await served.told(GET + sent + SMUGGLED)) == b"", "it would look like the first one's answer"
        async with served.call(GET) as caller:
            assert await caller.answer() == b"hello"
            caller.say(sent + SMUGGLED)
            assert (await caller.rest()).startswith(b"HTTP/1.1 400 ")
        await served.until_left()


async def test_nothing_is_said_in_the_midst_of_an_answer() -> None:
    left = asyncio.Event()

    async def answer(request: Request) -> None:
        request.head(200, [])
        request.body(b"hello", last=False)
        request.leave.add(left.set)
        await asyncio.Event().wait()

    async with serving(answer) as served:
        for sent in (b"\0", b"GET / HTTP/1.1\r\nx: " + b"x" * HEAD_BYTES):
            async with served.call(GET) as caller:
                await caller.reader.readuntil(b"hello\r\n")
                caller.say(sent)
                assert await caller.rest() == b""
            await asyncio.wait_for(left.wait(), 5)
            left.clear()


async def test_a_trailer_is_no_header_of_the_next_request() -> None:
    found = []

    async def answer(request: Request) -> None:
        found.append(set(request.headers))
        await hello(request)

    async with serving(answer) as served:
        await served.told(CHUNKED + b"0\r\nauthorization: x\r\n\r\n" + LAST)
    assert found == [{b"host", b"transfer-encoding"}, {b"host", b"connection"}]


async def test_a_head_may_be_so_large_and_no_larger() -> None:
    head = GET[:-2] + b"x: "
    wire = Wire(hello)
    wire.say(head)
    wire.say(b"x" * (HEAD_BYTES - len(head)))
    wire.say(b"\r\n\r\n")
    await until(lambda: wire.writes == [FIVE])
    wire.say(head)
    wire.say(b"x" * (HEAD_BYTES - len(head)))
    wire.say(b"x")
    assert wire.closed
    assert wire.writes[1].startswith(b"HTTP/1.1 431 ")
    assert b"head_too_large" in wire.writes[1]


async def test_a_large_body_is_not_taken_for_a_part_of_the_head_behind_it() -> None:
    wire = Wire(echo)
    size = HEAD_BYTES + 1
    wire.say(POST + b"content-length: %d\r\n\r\n" % size + b"x" * size + GET[:5])
    await until(lambda: wire.writes)
    wire.say(GET[5:])
    await until(lambda: len(wire.writes) == 3)
    assert wire.writes[2] == FIVE.replace(b"5", b"0")[:-5]


async def test_small_chunks_may_be_many() -> None:
    wire = Wire(echo)
    wire.say(CHUNKED)
    for _ in range(HEAD_BYTES // 3):
        wire.say(b"1\r\n")
        wire.say(b"x\r\n")
    wire.say(b"0\r\n\r\n")
    await until(lambda: wire.writes)
    assert wire.writes[0].endswith(b"x" * (HEAD_BYTES // 3))


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(CHUNKED + b"0\r\nx: ", id="a trailer"),
        pytest.param(CHUNKED + b"0\r\nx", id="a trailer's name"),
        pytest.param(CHUNKED + b"1;", id="a chunk's extension"),
        pytest.param(GET + b"GET / HTTP/1.1\r\nx: ", id="the head behind it"),
    ],
)
@pytest.mark.parametrize("more", [b"x", b"x: y\r\n"])
@pytest.mark.parametrize("answer", [echo, hello])
async def test_what_surrounds_a_body_has_a_bound(begun: bytes, more: bytes, answer: Answer) -> None:
    async with serving(answer) as served, served.call(begun) as caller:
        with pytest.raises(ConnectionError):
            for _ in range(200):
                caller.say(more * (2**16 // len(more)))
                await caller.drain()
        await served.until_left()


@pytest.mark.parametrize("drips", [False, True])
@pytest.mark.parametrize("reused", [False, True])
async def test_a_head_has_its_time_however_it_drips(reused: bool, drips: bool) -> None:
    begun = now()
    async with serving(hello, head_seconds=0.2, idle_seconds=30) as served, served.call(GET * reused) as caller:
        if reused:
            await caller.answer()
            await asyncio.sleep(0.25)
            begun = now()
        caller.say(GET[:-2] + b"x: ")
        if drips:
            await until(lambda: not served.state.connections or caller.say(b"y"))
        else:
            told = await caller.rest()
            assert told.startswith(b"HTTP/1.1 408 ")
            assert b"head_timeout" in told
        assert now() - begun > 0.19


async def test_a_head_behind_a_request_has_its_time_from_the_answer_on() -> None:
    async with serving(hello, head_seconds=0.5, idle_seconds=30) as served:
        told = await served.told(GET + b"GET")
    assert told.startswith(FIVE + b"HTTP/1.1 408 ")


async def test_an_answer_has_all_its_time_whatever_comes_behind_its_request() -> None:
    async def answer(request: Request) -> None:
        await asyncio.sleep(0.8 if request.path == "/" else 0)
        await hello(request)

    async with serving(answer, head_seconds=0.5, idle_seconds=0.5) as served:
        for begun in (b"", GET.replace(b"/", b"/x", 1)):
            async with served.call(begun) as caller:
                assert not begun or await caller.answer() == b"hello"
                caller.say(GET)
                await until(lambda: served.state.tasks)
                caller.say(b"GET")
                assert await caller.answer() == b"hello"


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    begun = now()
    async with serving(hello, head_seconds=0.2, idle_seconds=30) as served:
        assert await served.told(b"\r\n") == b""
    assert now() - begun > 0.19


async def test_a_connection_is_kept_while_it_is_used_and_a_while_longer() -> None:
    async with serving(hello, head_seconds=1, idle_seconds=2.5) as served, served.call() as caller:
        for _ in range(2):
            begun = now()
            caller.say(GET)
            assert await caller.answer() == b"hello"
            await asyncio.sleep(1.3)
        assert await caller.rest() == b""
        assert now() - begun > 2.49


async def test_who_hangs_up_ends_what_is_done_for_it() -> None:
    found = []

    async def answer(request: Request) -> None:
        request.leave.add(lambda: found.append("left"))
        assert request.taken() == b"hell"
        with pytest.raises(CallerGone):
            await request.come()
        tell(request, b"nobody")
        found.append("ended")

    async with serving(answer) as served, served.call(POST + b"content-length: 5\r\n\r\nhell") as caller:
        await until(lambda: served.state.tasks)
        caller.hang_up()
        await served.until_left()
    assert found == ["left", "ended"]


@pytest.mark.parametrize("later", [GET, GET[:-2] + b"connection: upgrade\r\nupgrade: x\r\n\r\n", b"GET / HT", b"\0"])
async def test_only_so_many_wait_behind_one_another_and_the_rest_is_for_another_connection(later: bytes) -> None:
    async def answer(request: Request) -> None:
        if not waiting:
            waiting.append(sum(isinstance(one, Request) for one in gc.get_objects()))
        await hello(request)

    waiting: list[int] = []
    async with serving(answer) as served:
        told = await served.told(GET * MOST_WAITING + GET * 500 + later)
        assert told == FIVE * (MOST_WAITING - 1) + FIVE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        await served.until_left()
        assert (await served.told(GET * (MOST_WAITING - 1) + LAST)).count(b"hello") == MOST_WAITING
    assert waiting[0] <= MOST_WAITING + 2


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="the system does not tell")
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(GET + GET, id="another request behind it"),
        pytest.param(GET * 3 + POST + b"content-length: 200000\r\n\r\n" + b"x" * 200_000, id="many and a body"),
        pytest.param(POST + b"content-length: 2000000\r\n\r\n" + b"x" * 150_000, id="a body that nobody takes"),
    ],
)
@pytest.mark.parametrize("resets", [True, False])
async def test_who_hangs_up_is_gone_whatever_is_unread(sent: bytes, resets: bool) -> None:
    async def answer(request: Request) -> None:
        left = asyncio.Event()
        request.leave.add(left.set)
        await left.wait()

    async with serving(answer) as served, served.call(sent) as caller:
        await until(lambda: any(connection._read_paused for connection in served.state.connections))
        assert len(served.state.tasks) == 1
        await asyncio.sleep(2 * HANG_UP_SECONDS)
        assert served.state.connections, "it is waited for while it is there"
        if resets:
            caller.reset()
        else:
            caller.hang_up()
        await served.until_left()


async def pours(request: Request) -> None:
    request.head(200, [])
    while not request.paused:
        request.body(b"x" * 2**16, last=False)
    await request.room()


async def pours_out(request: Request) -> None:
    request.head(200, [(b"content-length", b"%d" % 2**25)])
    request.body(b"x" * 2**25, last=True)


async def test_who_hangs_up_instead_of_reading_is_not_waited_for() -> None:
    async with serving(pours) as served, served.call(GET) as caller:
        await until(lambda: any(connection.paused for connection in served.state.connections))
        assert served.state.tasks
        caller.hang_up()
        await served.until_left()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system knows no such patience")
@pytest.mark.parametrize(("answer", "sent"), [(pours, GET), (pours_out, GET), (pours_out, LAST)])
async def test_who_never_reads_is_not_waited_for(answer: Answer, sent: bytes) -> None:
    async with serving(answer, idle_seconds=0.3) as served, served.call(sent):
        await until(lambda: served.state.connections)
        await served.until_left()


@pytest.mark.parametrize("lost", [True, False])
async def test_two_may_wait_for_one_caller_at_once(lost: bool) -> None:
    ended = []

    async def come(request: Request) -> None:
        try:
            await request.come()
            ended.append("came")
        except CallerGone:
            ended.append("gone")

    async def room(request: Request) -> None:
        await request.room()
        ended.append("room")

    async def answer(request: Request) -> None:
        await asyncio.gather(come(request), room(request))
        await hello(request)
        ended.append("answered")

    wire = Wire(answer)
    wire.connection.pause_writing()
    wire.say(POST + b"content-length: 5\r\n\r\n")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not ended
    if lost:
        wire.close()
    else:
        wire.say(b"x")
        await until(lambda: ended == ["came"])
        wire.connection.resume_writing()
    await until(lambda: len(ended) == 3)
    assert set(ended) == {"gone" if lost else "came", "room", "answered"}


async def test_a_server_that_ends_answers_what_it_has_begun() -> None:
    go_on = asyncio.Event()

    async def answer(request: Request) -> None:
        if request.path == "/begun":
            request.head(200, [(b"content-length", b"5")])
            request.body(b"he", last=False)
        await go_on.wait()
        if request.path == "/begun":
            request.body(b"llo", last=True)
        else:
            await hello(request)

    async with (
        serving(answer) as served,
        served.call() as silent,
        served.call(GET[:9]) as slow,
        served.call(GET + GET) as waits,
        served.call(GET.replace(b"/", b"/begun", 1)) as begun,
    ):
        await until(lambda: len(served.state.tasks) == 2 and len(served.state.connections) == 4)
        await begun.reader.readuntil(b"he")
        served.shut_down()
        assert [await caller.rest() for caller in (silent, slow)] == [b"", b""]
        go_on.set()
        assert await waits.rest() == FIVE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        assert await begun.rest() == b"llo"
        await served.until_left()


async def gives_up(_request: Request) -> None:
    raise asyncio.CancelledError


async def waits(request: Request) -> None:
    with contextlib.suppress(CallerGone):
        while True:
            await request.come()
            request.taken()
            request.arrived = False


@pytest.mark.parametrize("answer", [hello, gives_up, waits])
@pytest.mark.parametrize("sent", [b"", b"GET", GET, GET + b"\0", CHUNKED + b"5\r\nhe", LAST + GET], ids=repr)
async def test_nothing_stays_of_a_connection_that_is_gone(answer: Answer, sent: bytes) -> None:
    """Cycles would stay until they are looked for, which is seldom."""
    gc.disable()
    try:
        async with serving(answer, head_seconds=60, idle_seconds=60) as served:
            async with served.call(sent):
                await asyncio.sleep(0.02)
            await served.until_left()
            await until(lambda: not served.alive)
    finally:
        gc.enable()
