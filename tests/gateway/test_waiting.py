"""Models that sleep, start, fail or are replaced: who asks waits, within bounds, or is told at once."""

import asyncio
import time

import pytest
from aiohttp import web

from tests.gateway.conftest import Served
from tests.gateway.engines import engine, refusing
from tests.gateway.platform_side import served

CHAT = "/v1/chat/completions"


async def test_a_sleeping_model_is_woken_once_for_all_who_wait(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("sleeper-1", state="asleep"))

        def wakes(_id: str) -> web.Response:
            door.platform.publish(served("sleeper-1", state="starting"))
            asyncio.get_running_loop().call_later(0.4, door.platform.publish, served("sleeper-1", one.url))
            return web.json_response({}, status=202)

        door.platform.on_wake = wakes
        begun = time.monotonic()
        answers = await asyncio.gather(*(door.gateway.chat("sleeper-1") for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert door.platform.wakes == ["dep-default-sleeper-1"]
    assert time.monotonic() - begun < 2


async def test_the_first_who_waits_may_hang_up_and_the_others_are_still_served(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("sleeper-2", state="asleep"))

        def wakes(_id: str) -> web.Response:
            asyncio.get_running_loop().call_later(0.3, door.platform.publish, served("sleeper-2", one.url))
            return web.json_response({}, status=202)

        door.platform.on_wake = wakes
        first = asyncio.create_task(door.gateway.chat("sleeper-2"))
        while not door.platform.wakes:
            await asyncio.sleep(0.005)
        others = [asyncio.create_task(door.gateway.chat("sleeper-2")) for _ in range(3)]
        first.cancel()
        assert {status for status, _ in await asyncio.gather(*others)} == {200}
    assert len(one.bodies) == 3


@pytest.mark.parametrize(("state", "code"), [("asleep", "model_asleep"), ("starting", "model_starting")])
async def test_the_wait_has_an_end(door: Served, state: str, code: str) -> None:
    door.platform.on_wake = lambda _id: web.json_response({}, status=202)
    await door.serve(served(f"slow-{state}", state=state, message="loading weights: 40%"))
    begun = time.monotonic()
    status, content, headers = await door.gateway.post("/v1/chat/completions", json={"model": f"slow-{state}"})
    assert (status, content["error"]["code"], headers["retry-after"]) == (503, code, "10")
    assert "loading weights: 40%" in content["error"]["message"]
    assert 1.9 < time.monotonic() - begun < 3.5


async def test_a_wake_that_is_declined_is_told_at_once(door: Served) -> None:
    problem = {"title": "no room", "status": 409, "code": "no_room", "detail": "It does not fit now."}
    door.platform.on_wake = lambda _id: web.json_response(problem, status=409)
    await door.serve(served("sleeper-3", state="asleep"))
    begun = time.monotonic()
    status, content = await door.gateway.chat("sleeper-3")
    assert (status, content["error"]["code"]) == (503, "model_asleep")
    assert "It does not fit now." in content["error"]["message"]
    assert time.monotonic() - begun < 1


async def test_a_wake_that_nobody_heard_is_tried_again(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("sleeper-4", state="asleep"))

        def wakes(_id: str) -> web.Response:
            if len(door.platform.wakes) == 1:
                return web.Response(status=500)
            door.platform.publish(served("sleeper-4", one.url))
            return web.json_response({}, status=202)

        door.platform.on_wake = wakes
        assert (await door.gateway.chat("sleeper-4"))[0] == 200
    assert len(door.platform.wakes) == 2


@pytest.mark.parametrize("state", ["failed", "stopped"])
async def test_what_will_not_come_is_told_at_once_with_its_reason(door: Served, state: str) -> None:
    await door.serve(served("broken", state=state, message="The weights are cut short."))
    begun = time.monotonic()
    status, content, headers = await door.gateway.post("/v1/chat/completions", json={"model": "broken"})
    assert (status, content["error"]["code"], headers["x-should-retry"]) == (503, f"model_{state}", "false")
    assert "The weights are cut short." in content["error"]["message"]
    assert time.monotonic() - begun < 1


async def test_a_model_that_is_deleted_meanwhile_is_not_waited_for(door: Served) -> None:
    await door.serve(served("leaving", state="starting"))
    asking = asyncio.create_task(door.gateway.chat("leaving"))
    await asyncio.sleep(0.2)
    await door.serve()
    status, content = await asyncio.wait_for(asking, 1)
    assert (status, content["error"]["code"]) == (404, "model_not_found")


async def test_an_engine_that_died_is_waited_out_until_the_snapshot_has_its_successor(door: Served) -> None:
    async with engine() as one:
        await door.serve(served("tiny", refusing()))
        asking = asyncio.create_task(door.gateway.chat("tiny"))
        await asyncio.sleep(0.3)
        await door.serve(served("tiny", state="starting"))
        await asyncio.sleep(0.3)
        await door.serve(served("tiny", one.url))
        status, _ = await asyncio.wait_for(asking, 2)
    assert status == 200


async def test_replacement_under_load_fails_no_request_and_cuts_no_stream(door: Served) -> None:
    """Eight callers, streaming and not, while engines come, take over, drain and end for good, twelve times over."""
    failed: list[object] = []
    done = 0
    over = asyncio.Event()

    async def caller(number: int) -> None:
        nonlocal done
        while not over.is_set():
            if number % 2:
                status, content = await door.gateway.chat("tiny")
                right = status == 200 and content["model"].startswith("engine")
            else:
                said = await _whole_stream(door)
                right = said.count(b"data: ") == 6 and said.endswith(b"[DONE]\n\n")
                content = said
            if not right:
                failed.append(content)
            done += 1

    async with engine("engine-0") as first:
        await door.serve(served("tiny", first.url))
        callers = [asyncio.create_task(caller(number)) for number in range(8)]
        before, ends = first, None
        for number in range(1, 13):
            context = engine(f"engine-{number}")
            newer = await context.__aenter__()
            newer.pause = 0.01
            await asyncio.sleep(0.1)
            door.platform.publish(served("tiny", newer.url))
            await asyncio.sleep(0.02)
            while before.running:
                await asyncio.sleep(0.01)
            if ends is not None:
                await ends.__aexit__(None, None, None)
            before, ends = newer, context
        over.set()
        await asyncio.gather(*callers)
        assert ends is not None
        await ends.__aexit__(None, None, None)
    assert failed == []
    assert done > 50


async def test_a_replica_that_leaves_finishes_what_it_runs_and_gets_nothing_new(door: Served) -> None:
    async with engine("old") as old, engine("new") as new:
        await door.serve(served("tiny", old.url))
        old.go_on.clear()
        running = asyncio.create_task(_whole_stream(door))
        while not old.running:
            await asyncio.sleep(0.01)
        await door.serve(served("tiny", new.url))
        assert {content["model"] for _, content in [await door.gateway.chat("tiny") for _ in range(5)]} == {"new"}
        old.go_on.set()
        assert (await running).endswith(b"[DONE]\n\n")
    assert len(old.bodies) == 1


async def _whole_stream(door: Served) -> bytes:
    import aiohttp

    from tests.gateway.platform_side import MEMBER

    async with (
        aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
        session.post("/v1/chat/completions", json={"model": "tiny", "stream": True}) as answer,
    ):
        return await answer.content.read() if answer.status == 200 else await answer.read() + b" refused"


async def test_a_model_that_sleeps_is_waited_for_where_the_one_in_its_place_cannot_come(door: Served) -> None:
    async with engine("awake") as awake:
        asleep = served("sleeper", state="asleep")
        await door.serve(asleep, served("stopped", state="stopped"))
        told = {"x-imts-fallbacks": "stopped"}
        asked = asyncio.create_task(door.gateway.post(CHAT, json={"model": "sleeper"}, headers=told))
        await asyncio.sleep(0.3)
        await door.serve(served("sleeper", awake.url), served("stopped", state="stopped"))
        assert (await asked)[0] == 200


async def test_nobody_is_told_of_a_wait_that_there_was_not(door: Served) -> None:
    """The one in its place is waited for."""
    await door.serve(served("sleeper", state="starting"), served("later", state="starting"))
    told = {"x-imts-fallbacks": "later"}
    status, content, _ = await door.gateway.post(CHAT, json={"model": "sleeper"}, headers=told)
    assert (status, content["error"]["code"]) == (503, "model_starting")
    assert content["error"]["message"] == "The model `sleeper` is still starting."
