"""How many bytes of bodies are held at once, over all requests."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from imts_shared.contracts.providers import ProviderKind, ProviderModel
from imts_shared.contracts.serving import KnownRoute
from inference_service.gateway.holding import Holding
from inference_service.gateway.requests import Incoming
from tests.gateway.conftest import Served, gateway_process
from tests.gateway.engines import Engine, engine, refusing, wire
from tests.gateway.platform_side import MEMBER, platform, provider, served

CHAT = "/v1/chat/completions"
ROOM = 6_000_000
"""A text takes its bytes once more when it is parsed."""
LARGE = "x" * 1_200_000


@pytest.fixture(scope="module")
async def narrow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with platform() as here:
        settings = {"IMTS_GATEWAY_BODIES_BYTES": str(ROOM), "IMTS_GATEWAY_WHOLE_SECONDS": "60"}
        with gateway_process(tmp_path_factory.mktemp("gateway"), here.url, **settings) as gateway:
            await gateway.until_up()
            yield Served(here, gateway)


async def _chat(narrow: Served, model: str, text: str = LARGE) -> tuple[int, Any, Any]:
    asked = {"model": model, "messages": [{"role": "user", "content": text}]}
    return await narrow.gateway.post(CHAT, json=asked)


async def _until_asked(one: Engine, times: int) -> None:
    for _ in range(500):
        if len(one.bodies) >= times:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"the engine was asked {len(one.bodies)} times")


async def test_beyond_the_bound_a_large_request_is_asked_to_come_again_and_a_small_one_passes(narrow: Served) -> None:
    async with engine("slow") as slow, engine("quick") as quick:
        await narrow.serve(served("slow", slow.url), served("quick", quick.url))
        slow.go_on.clear()
        under_way = [asyncio.create_task(_chat(narrow, "slow")) for _ in range(2)]
        await _until_asked(slow, 2)
        status, content, headers = await _chat(narrow, "quick")
        assert (status, content["error"]["code"], content["error"]["type"]) == (503, "gateway_full", "server_error")
        assert headers["retry-after"] == "1"
        assert (await _chat(narrow, "quick", "x" * 60_000))[0] == 200
        assert len(quick.bodies) == 1
        slow.go_on.set()
        assert [status for status, _, _ in await asyncio.gather(*under_way)] == [200, 200]
        assert (await _chat(narrow, "quick"))[0] == 200


async def test_one_that_does_not_say_its_length_is_counted_as_it_comes(narrow: Served) -> None:
    async with engine("slow") as slow:
        await narrow.serve(served("slow", slow.url))
        slow.go_on.clear()
        under_way = [asyncio.create_task(_chat(narrow, "slow")) for _ in range(2)]
        await _until_asked(slow, 2)

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(12):
                yield b" " * 100_000

        status, content, _ = await narrow.gateway.post(CHAT, data=parts())
        assert (status, content["error"]["code"]) == (503, "gateway_full")
        slow.go_on.set()
        await asyncio.gather(*under_way)


async def test_what_a_request_took_is_given_back_however_it_ends(narrow: Served) -> None:
    async with engine("one") as one:
        await narrow.serve(served("one", one.url))
        for _ in range(4):
            status, content, _ = await narrow.gateway.post(CHAT, data=b" " * 1_500_000)
            assert (status, content["error"]["code"]) == (400, "invalid_json")
            assert (await _chat(narrow, "nobody"))[0] == 404
            message = {"message": "x" * 990_000, "model": "one"}
            assert (await narrow.gateway.post("/api/chat", json=message))[0] == 200
        one.go_on.clear()
        for times in range(4):
            async with aiohttp.ClientSession(narrow.gateway.url) as session:
                asked = {"model": "one", "messages": [{"role": "user", "content": LARGE}]}
                headers = {"authorization": f"Bearer {MEMBER}"}
                gone = asyncio.create_task(session.post(CHAT, json=asked, headers=headers))
                await _until_asked(one, 5 + times)
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
        one.go_on.set()
        assert (await _chat(narrow, "one"))[0] == 200
        async with aiohttp.ClientSession(narrow.gateway.url) as session, session.get("/metrics") as answer:
            assert "imts_gateway_bodies_bytes 0.0" in await answer.text()


class Dripping:
    """A body that comes byte by byte."""

    def __init__(self, size: int) -> None:
        self.size = 1
        self._left = size

    @property
    def arrived(self) -> bool:
        return not self._left

    def taken(self) -> bytes:
        self._left -= 1
        self.size = min(1, self._left)
        return bytes((self._left % 256,))

    async def come(self) -> None:
        raise AssertionError("there is some of it")


async def test_pieces_take_no_more_than_their_bytes_however_small() -> None:
    tracemalloc.start()
    try:
        body = await Incoming(Dripping(100_000), set(), Holding(ROOM)).read({}, 200_000, 60)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(body) == 100_000
    assert most < 400_000


async def test_what_a_body_takes_when_it_is_parsed_is_counted(narrow: Served) -> None:
    many = {"model": "slow", "messages": [], "x": ["ab"] * 60_000}
    async with engine("slow") as slow:
        await narrow.serve(served("slow", slow.url))
        slow.go_on.clear()
        under_way = asyncio.create_task(narrow.gateway.post(CHAT, json=many))
        await _until_asked(slow, 1)
        status, content, _ = await narrow.gateway.post(CHAT, json=many)
        assert (status, content["error"]["code"]) == (503, "gateway_full")
        slow.go_on.set()
        assert (await under_way)[0] == 200
        assert (await narrow.gateway.post(CHAT, json=many))[0] == 200
        status, content, _ = await narrow.gateway.post(CHAT, json={**many, "x": ["ab"] * 90_000})
        assert (status, content["error"]["code"]) == (413, "body_too_large"), "it never finds room"


async def test_a_body_that_goes_on_in_other_words_is_counted_once_more(narrow: Served) -> None:
    """A route's with its model's name, and a stream's with the question for its usage."""
    async with engine("slow") as slow:
        way = KnownRoute(name="way", project="default", models=["slow"])
        await narrow.serve(
            served("slow", slow.url),
            providers=[provider("cloud", slow.url, ProviderModel(name="far", upstream_name="slow"))],
            routes=[way],
        )
        for asked, copies in (
            ({"model": "slow"}, 0),
            ({"model": "way"}, 1),
            ({"model": "far"}, 1),
            ({"model": "slow", "stream": True}, 1),
            ({"model": "slow", "stream": True, "stream_options": {"include_usage": True}}, 0),
            ({"model": "way", "stream": True}, 2),
        ):
            slow.go_on.clear()
            before = len(slow.bodies)
            async with aiohttp.ClientSession(narrow.gateway.url) as session:
                whole = {**asked, "messages": [{"role": "user", "content": LARGE}]}
                headers = {"authorization": f"Bearer {MEMBER}"}
                under_way = asyncio.create_task(session.post(CHAT, json=whole, headers=headers))
                await _until_asked(slow, before + 1)
                async with session.get("/metrics") as answer:
                    held = float((await answer.text()).partition("\nimts_gateway_bodies_bytes ")[2].split()[0])
                assert held // len(LARGE) == 2 + copies
                slow.go_on.set()
                assert await (await under_way).read()


async def test_a_body_that_never_finds_room_is_too_large(narrow: Served) -> None:
    status, content, _ = await narrow.gateway.post(CHAT, data=b" " * (ROOM + 1))
    assert (status, content["error"]["code"]) == (413, "body_too_large")


async def test_its_copy_under_another_name_is_counted(narrow: Served) -> None:
    async with engine("slow") as slow:
        await narrow.serve(served("slow", slow.url), served("dead", refusing()))
        slow.go_on.clear()
        asked = {"model": "dead", "messages": [{"role": "user", "content": LARGE}]}
        told = {"x-imts-fallbacks": "slow"}
        under_way = asyncio.create_task(narrow.gateway.post(CHAT, json=asked, headers=told))
        await _until_asked(slow, 1)
        assert b'"slow"' in slow.bodies[0][:40]
        assert 3 <= await _held(narrow) / len(LARGE) < 3.1
        slow.go_on.set()
        assert (await under_way)[0] == 200


@pytest.mark.parametrize(("its_name", "bodies"), [("theirs", 4), ("ours", 3)])
async def test_so_is_that_under_its_providers_name(narrow: Served, its_name: str, bodies: int) -> None:
    async with engine("slow") as slow:
        model = ProviderModel(name="ours", upstream_name=its_name)
        await narrow.serve(served("dead", refusing()), providers=[provider("cloud", slow.url, model)])
        slow.go_on.clear()
        asked = {"model": "dead", "messages": [{"role": "user", "content": LARGE}]}
        under_way = asyncio.create_task(narrow.gateway.post(CHAT, json=asked, headers={"x-imts-fallbacks": "ours"}))
        await _until_asked(slow, 1)
        assert bodies <= await _held(narrow) / len(LARGE) < bodies + 0.1
        slow.go_on.set()
        assert (await under_way)[0] == 200


async def test_what_is_translated_is_counted_once_more(narrow: Served) -> None:
    coming = asyncio.Event()
    go_on = asyncio.Event()

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        coming.set()
        await go_on.wait()
        writer.close()

    async with wire(behave) as claude:
        await narrow.serve(providers=[provider("claude", claude.url, "claude", kind=ProviderKind.anthropic)])
        under_way = asyncio.create_task(_chat(narrow, "claude"))
        await coming.wait()
        assert 4 <= await _held(narrow) / len(LARGE) < 4.1
        go_on.set()
        assert (await under_way)[0] == 503


async def _held(narrow: Served) -> float:
    async with aiohttp.ClientSession(narrow.gateway.url) as session, session.get("/metrics") as answer:
        return float((await answer.text()).partition("\nimts_gateway_bodies_bytes ")[2].split()[0])
