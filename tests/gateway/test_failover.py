"""When an upstream cannot: who else is asked, when it is asked again, and what the caller is told."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from imts_shared.contracts.providers import ProviderKind, ProviderModel, UpstreamLimits
from tests.conftest import free_port
from tests.gateway.conftest import Served
from tests.gateway.engines import STREAM_HEAD, Wire, chunk, engine, event, refusing, said, wire
from tests.gateway.platform_side import MEMBER, provider, served, serving

CHAT = "/v1/chat/completions"


class Answering:
    """Answers each request with the next of its statuses, the last one from then on."""

    def __init__(self, *answers: tuple[int, dict[str, str]]) -> None:
        self.url = ""
        self.asked_at: list[float] = []
        self._answers = list(answers)

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked_at.append(time.monotonic())
        status, headers = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if status == 200:
            said = {"choices": [{"message": {"content": "well again"}}], "usage": {"prompt_tokens": 1}}
            return web.json_response(said, headers=headers)
        return web.json_response({"error": {"message": f"I say {status}."}}, status=status, headers=headers)


@asynccontextmanager
async def answering(*answers: tuple[int, dict[str, str]]) -> AsyncIterator[Answering]:
    here = Answering(*answers)
    port = free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", here.answer)
    here.url = f"http://127.0.0.1:{port}"
    async with serving(app, port):
        yield here


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 529])
async def test_one_that_cannot_is_passed_over(door: Served, status: int) -> None:
    async with answering((status, {})) as bad, engine("good") as good:
        await door.serve(served("tiny", bad.url, good.url))
        assert {(await door.gateway.chat("tiny"))[0] for _ in range(12)} == {200}
    assert len(bad.asked_at) >= 1
    assert len(good.bodies) == 12


async def test_what_the_caller_did_wrong_is_not_tried_elsewhere(door: Served) -> None:
    async with answering((400, {})) as one, answering((400, {})) as other:
        await door.serve(served("tiny", one.url, other.url))
        status, content = await door.gateway.chat("tiny")
    assert (status, content["error"]["message"]) == (400, "I say 400.")
    assert len(one.asked_at) + len(other.asked_at) == 1


async def test_a_provider_that_refuses_our_key_is_not_shown_as_the_callers_fault(door: Served) -> None:
    async with answering((401, {})) as bad, engine("good") as good:
        await door.serve(providers=[provider("bad", bad.url, "tiny")])
        status, content = await door.gateway.chat("tiny")
        assert (status, content["error"]["code"]) == (503, "model_unreachable")
        await door.serve(providers=[provider("bad", bad.url, "tiny"), provider("good", good.url, "tiny")])
        assert (await door.gateway.chat("tiny"))[0] == 200


async def test_retry_after_is_honoured_and_told(door: Served) -> None:
    async with answering((429, {"retry-after": "2"}), (200, {})) as busy:
        await door.serve(providers=[provider("busy", busy.url, "tiny")])
        status, content, headers = await door.gateway.post(CHAT, json={"model": "tiny"})
        assert (status, headers["retry-after"]) == (429, "2")
        assert content["error"]["message"] == "I say 429."
        status, content, headers = await door.gateway.post(CHAT, json={"model": "tiny"})
        assert (status, content["error"]["code"]) == (429, "upstream_rate_limited")
        assert 1 <= int(headers["retry-after"]) <= 2
        assert len(busy.asked_at) == 1, "it is left alone as it asked"
        await asyncio.sleep(2.1)
        assert (await door.gateway.chat("tiny"))[0] == 200


async def test_one_that_was_ill_is_asked_by_one_request_until_it_is_well(door: Served) -> None:
    stalled = asyncio.Event()
    asked = 0

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            writer.close()
            return
        await stalled.wait()
        writer.close()

    async with wire(behave) as ill, engine("good") as good:
        await door.serve(served("tiny", ill.url, good.url))
        while not asked:
            assert (await door.gateway.chat("tiny"))[0] == 200
        await asyncio.sleep(0.7)
        answers = [asyncio.create_task(door.gateway.chat("tiny")) for _ in range(30)]
        await asyncio.sleep(0.5)
        assert asked <= 2, "a rest that is over lets one request through, not all"
        stalled.set()
        assert {(await answer)[0] for answer in answers} == {200}


async def test_one_that_is_full_or_pauses_is_the_reason_and_not_another_that_cannot_say_it(door: Served) -> None:
    """Nobody tries again what cannot be said."""
    limits = UpstreamLimits(requests_per_minute=1)
    async with engine("able") as able:
        both = [
            provider("messages", refusing(), "scarce", kind=ProviderKind.anthropic),
            provider("plain", able.url, "scarce", limits=limits),
        ]
        await door.serve(providers=both)
        asked = {"model": "scarce", "n": 2, "messages": [{"role": "user", "content": "Hello"}]}
        answers = [await door.gateway.post(CHAT, json=asked) for _ in range(8)]
    statuses = [status for status, _, _ in answers]
    assert (statuses[0], len(able.bodies)) == (200, 1)
    assert set(statuses[1:]) <= {429, 503}, answers
    assert all("retry-after" in headers for _, _, headers in answers[1:])


async def test_another_model_answers_in_its_place_unless_the_caller_wants_none(door: Served) -> None:
    async with engine("second") as second, engine("third") as third:
        first = ProviderModel(name="first", fallbacks=["second", "nowhere", "third"])
        await door.serve(
            served("third", third.url),
            providers=[provider("gone", refusing(), first), provider("cloud", second.url, "second")],
        )
        status, _, headers = await door.gateway.post(CHAT, json={"model": "first"})
        assert (status, headers["x-imts-model"]) == (200, "second")
        assert b'"model":"second"' in second.bodies[0]
        status, content, _ = await door.gateway.post(
            CHAT, json={"model": "first"}, headers={"x-imts-fallbacks": "none"}
        )
        assert (status, content["error"]["code"]) == (503, "model_unreachable")
        status, _, headers = await door.gateway.post(
            CHAT, json={"model": "first"}, headers={"x-imts-fallbacks": "third"}
        )
        assert (status, headers["x-imts-model"]) == (200, "third")


async def test_one_that_rests_is_not_waited_for_where_another_model_can_answer(door: Served) -> None:
    """But for one request that shows whether it is well again; without another model it is asked all the same."""
    async with answering((500, {})) as bad, engine("second") as second:
        first = ProviderModel(name="resting", fallbacks=["stand-in"])
        await door.serve(served("stand-in", second.url), providers=[provider("bad", bad.url, first)])
        answers = [await door.gateway.post(CHAT, json={"model": "resting"}) for _ in range(20)]
        assert {(status, headers["x-imts-model"]) for status, _, headers in answers} == {(200, "stand-in")}
        assert len(bad.asked_at) <= 3, "a rest lasts longer with each failure"
        before = len(bad.asked_at)
        for _ in range(3):
            alone = await door.gateway.post(CHAT, json={"model": "resting"}, headers={"x-imts-fallbacks": "none"})
            assert alone[0] == 500
        assert len(bad.asked_at) == before + 3


@pytest.mark.parametrize("in_its_place", ["stopped", "dead"])
async def test_one_that_rests_is_asked_where_the_other_model_cannot_answer(door: Served, in_its_place: str) -> None:
    async with answering((500, {}), (200, {})) as once:
        first = ProviderModel(name="recovering", fallbacks=[in_its_place])
        await door.serve(
            served("stopped", state="stopped"),
            providers=[provider("once", once.url, first), provider("dead", refusing(), "dead")],
        )
        answers = [(await door.gateway.chat("recovering"))[0] for _ in range(6)]
    assert answers == [500, 200, 200, 200, 200, 200]


async def test_one_that_is_shown_to_be_well_is_asked_meanwhile_where_nobody_else_can_answer(door: Served) -> None:
    shown = asyncio.Event()
    answers = Counter[str]()

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers["all"] += 1
        if answers["all"] == 1:
            writer.close()
            return
        if answers["all"] == 2:
            await shown.wait()
        body = said(prompt_tokens=1, completion_tokens=1)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        writer.write(body)

    async with wire(behave) as ill:
        await door.serve(served("stopped", state="stopped"), served("mending", ill.url))
        told = {"x-imts-fallbacks": "stopped"}
        assert (await door.gateway.post(CHAT, json={"model": "mending"}, headers=told))[0] == 503
        await asyncio.sleep(0.6)
        shows = asyncio.create_task(door.gateway.post(CHAT, json={"model": "mending"}, headers=told))
        while answers["all"] < 2:
            await asyncio.sleep(0.01)
        others = [await door.gateway.post(CHAT, json={"model": "mending"}, headers=told) for _ in range(3)]
        shown.set()
        assert [status for status, _, _ in (*others, await shows)] == [200] * 4


async def test_an_engine_that_wants_to_be_left_alone_is(door: Served) -> None:
    async with answering((429, {"retry-after": "30"})) as busy, engine("other") as other:
        await door.serve(served("pausing", busy.url), served("beside", other.url))
        told = {"x-imts-fallbacks": "beside"}
        answers = [await door.gateway.post(CHAT, json={"model": "pausing"}, headers=told) for _ in range(5)]
        assert {(status, headers["x-imts-model"]) for status, _, headers in answers} == {(200, "beside")}
        status, content, headers = await door.gateway.post(CHAT, json={"model": "pausing"})
    assert (status, content["error"]["code"]) == (429, "upstream_rate_limited")
    assert 25 <= int(headers["retry-after"]) <= 30
    assert len(busy.asked_at) == 1


async def test_upstreams_that_cannot_say_it_are_no_tries(door: Served) -> None:
    """Anthropic's messages have no `n`: the one upstream that takes it is asked, however many stand before it; and what
    was never sent counts against no rate."""
    asked = {"n": 2, "messages": [{"role": "user", "content": "Hello"}]}
    async with engine("able") as able:
        heavy = ProviderModel(name="many-ways", weight=100)
        unable = [provider(f"m{n}", refusing(), heavy, kind=ProviderKind.anthropic) for n in range(3)]
        light = ProviderModel(name="many-ways", weight=0.01)
        await door.serve(providers=[*unable, provider("able", able.url, light)])
        statuses = [(await door.gateway.post(CHAT, json={"model": "many-ways", **asked}))[0] for _ in range(4)]
        assert (statuses, len(able.bodies)) == ([200] * 4, 4)
    limits = UpstreamLimits(requests_per_minute=2)
    await door.serve(providers=[provider("rare", refusing(), "rare", kind=ProviderKind.anthropic, limits=limits)])
    for _ in range(4):
        status, content, _ = await door.gateway.post(CHAT, json={"model": "rare", **asked})
        assert (status, content["error"]["param"]) == (400, "n")


async def test_what_one_cannot_say_is_not_the_reason_where_another_fails(door: Served) -> None:
    """Anthropic's messages have no `n`; who is told that would not try again."""
    async with answering((500, {})) as bad:
        for url, found in ((bad.url, 500), (refusing(), 503)):
            both = [
                provider("messages", refusing(), "two-ways", kind=ProviderKind.anthropic),
                provider("plain", url, "two-ways"),
            ]
            await door.serve(providers=both)
            asked = {"model": "two-ways", "n": 2, "messages": [{"role": "user", "content": "Hello"}]}
            statuses = {(await door.gateway.post(CHAT, json=asked))[0] for _ in range(12)}
            assert statuses == {found}


async def test_an_engine_alone_that_rests_is_passed_over_for_another_model(door: Served) -> None:
    async with answering((500, {})) as bad, engine("second") as second:
        await door.serve(served("lonely", bad.url), served("beside", second.url))
        told = {"x-imts-fallbacks": "beside"}
        answers = [await door.gateway.post(CHAT, json={"model": "lonely"}, headers=told) for _ in range(20)]
        assert {(status, headers["x-imts-model"]) for status, _, headers in answers} == {(200, "beside")}
    assert len(bad.asked_at) <= 3


@pytest.mark.parametrize("pause", ["0", "0.001"])
async def test_whoever_fails_rests_however_soon_it_would_be_asked_again(door: Served, pause: str) -> None:
    async with answering((500, {"retry-after": pause})) as bad, engine("good") as good:
        await door.serve(providers=[provider("bad", bad.url, "soon"), provider("good", good.url, "soon")])
        assert {(await door.gateway.chat("soon"))[0] for _ in range(40)} == {200}
    assert len(bad.asked_at) <= 3


async def _cuts_without_an_end(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + chunk(event("cut", 0)) + b"0\r\n\r\n")


async def _garbage_midway(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + chunk(event("cut", 0)))
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.write(chunk(b"\xff\xfe<html>\n\n") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


@pytest.mark.parametrize("behave", [_cuts_without_an_end, _garbage_midway])
async def test_a_stream_without_its_own_end_is_an_error_for_the_caller(door: Served, behave: Wire) -> None:
    async with (
        wire(behave) as bad,
        aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
    ):
        await door.serve(served("tiny", bad.url))
        async with session.post(CHAT, json={"model": "tiny", "stream": True}) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()


async def _error_first(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + chunk(b'data: {"error": {"message": "overloaded"}}\n\n') + chunk(b"data: [DONE]\n\n"))
    writer.write(b"0\r\n\r\n")


async def _html(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>")


async def _says_less(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n{"choices": []}')


async def _done_alone(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def _stream_in_its_place(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + chunk(event("bad", 0)) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("behave", "stream"),
    [
        (_error_first, True), (_html, False), (_says_less, False), (_done_alone, True), (_stream_in_its_place, False),
    ],
)  # fmt: skip
async def test_nonsense_before_the_caller_saw_anything_is_tried_elsewhere(
    door: Served, behave: Wire, stream: bool
) -> None:
    async with wire(behave) as bad, engine("good") as good:
        for number in range(100):
            await door.serve(served("tiny", f"{bad.url}#{number}", f"{good.url}#{number}"))
            async with (
                aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
                session.post(CHAT, json={"model": "tiny", "stream": stream}) as answer,
            ):
                assert answer.status == 200
                assert "good" in await answer.text()
            assert len(good.bodies) == number + 1
            if bad.asked:
                break
        assert bad.asked, "one of the two is taken by chance"


async def test_a_conversation_goes_on_where_it_began(door: Served) -> None:
    async with engine("a") as one, engine("b") as other, engine("c") as third:
        await door.serve(served("tiny", one.url, other.url, third.url))
        where: Counter[str] = Counter()
        for number in range(9):
            first = {"role": "user", "content": f"{number}: " + "a long beginning " * 50}
            said = []
            for turn in range(4):
                talk = [first, *({"role": "user", "content": f"turn {turn}"} for turn in range(turn))]
                _, content, _ = await door.gateway.post(CHAT, json={"model": "tiny", "messages": talk})
                said.append(content["id"])
            assert len(set(said)) == 1, "each turn finds the engine that has computed the ones before"
            where[said[0]] += 1
    assert len(where) >= 2, "conversations are spread"
