"""Answers whose length nobody knows, and callers that would have it guessed too short, before limits that must hold."""

import asyncio
import contextlib
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from imts_shared.contracts.access import Role
from imts_shared.contracts.limits import Limits
from imts_shared.contracts.providers import ProviderModel, UpstreamLimits
from imts_shared.contracts.serving import KnownKey
from inference_service.gateway.bodies import answers_asked, guessed_prompt, guessed_tokens
from inference_service.gateway.lengths import Lengths
from tests.conftest import free_port
from tests.gateway.conftest import Served
from tests.gateway.engines import said, saying
from tests.gateway.platform_side import KEYS, known, provider, served, serving

CHAT = "/v1/chat/completions"


def only(key: str, **limits: Any) -> list[KnownKey]:
    """A key of its own, so that nobody else has spent of its budget."""
    return [*KEYS, known(key, Role.inference, "default").model_copy(update={"limits": Limits(**limits)})]


@pytest.mark.parametrize(
    ("path", "asked", "bound"),
    [
        (CHAT, {"max_tokens": 4_000, "max_completion_tokens": 1}, 4_000),
        (CHAT, {"max_completion_tokens": 7}, 7),
        (CHAT, {"max_tokens": "300"}, 300),
        (CHAT, {"max_tokens": 300.0}, 300),
        (CHAT, {"max_tokens": "many"}, 0),
        (CHAT, {"max_tokens": -5}, 0),
        (CHAT, {"max_tokens": "9" * 5_000}, 0),
        (CHAT, {"max_tokens": float("inf")}, 0),
        (CHAT, {"max_output_tokens": 1}, 0),
        ("/v1/completions", {"max_tokens": 4_000, "max_completion_tokens": 1}, 4_000),
        ("/v1/completions", {"max_completion_tokens": 1}, 0),
        ("/v1/responses", {"max_tokens": 1, "max_output_tokens": 900}, 900),
        ("/v1/responses", {"max_tokens": 1}, 0),
    ],
)
def test_what_bounds_an_answer_is_what_its_upstream_may_heed(path: str, asked: dict[str, Any], bound: int) -> None:
    assert guessed_tokens(path, b"{}", asked)[1] == bound


@pytest.mark.parametrize("several", [10, "10", 10.0, " 10 "])
def test_answers_are_counted_however_their_number_is_written(several: Any) -> None:
    assert answers_asked({"n": several}) == 10


@pytest.mark.parametrize("none", ["ten", None, [], {}, -3, float("nan"), "1" * 400])
def test_what_is_no_number_of_answers_is_one(none: Any) -> None:
    assert answers_asked({"n": none}) == 1


def test_digits_and_pictures_by_address_are_guessed_as_what_they_take() -> None:
    assert guessed_prompt(b"7" * 3_000) >= 3_000
    assert guessed_prompt(b"some words " * 300) <= 1_101
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert guessed_prompt(orjson.dumps([picture] * 5)) >= 5_000
    given = orjson.dumps([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])
    assert 1_000 < guessed_prompt(given) < 1_100
    some = b"0 and 1, or /9:"
    assert guessed_prompt(some * 20_000) - 1 == 20_000 * (guessed_prompt(some * 4) - 1) // 4, "however large it is"


async def test_two_bounds_of_an_answer_overrun_no_budget(door: Served) -> None:
    async with saying(said(prompt_tokens=20, completion_tokens=4_000)) as (url, _):
        await door.serve(served("twofold", url), keys=only("sk-twofold", token_budget=50_000))
        asked = {"model": "twofold", "max_tokens": 4_000, "max_completion_tokens": 1}
        answers = await asyncio.gather(*(door.gateway.post(CHAT, "sk-twofold", json=asked) for _ in range(40)))
        answered = sum(status == 200 for status, _, _ in answers)
        used = await door.used_at("twofold", "deployment", answered)
    assert {status for status, _, _ in answers} == {200, 429}
    assert used.input_tokens + used.output_tokens <= 50_500


@pytest.mark.parametrize("before", [{}, {"max_tokens": 1}])
async def test_a_burst_of_long_answers_of_an_unknown_model_overruns_no_budget(
    door: Served, before: dict[str, int]
) -> None:
    """A short answer to one that bounds it says nothing of how long others are."""

    async def answer(request: web.Request) -> web.Response:
        made = (await request.json()).get("max_tokens", 20_000)
        return web.Response(body=said(prompt_tokens=20, completion_tokens=made), content_type="application/json")

    app, port, name = web.Application(), free_port(), f"never-heard-{len(before)}"
    app.router.add_post("/{path:.*}", answer)
    async with serving(app, port):
        key = f"sk-burst-{len(before)}"
        await door.serve(served(name, f"http://127.0.0.1:{port}"), keys=only(key, token_budget=300_000))
        if before:
            assert (await door.gateway.chat(name, key=key, **before))[0] == 200
            await door.used_at(name, "deployment", 1)
        answers = await asyncio.gather(*(door.gateway.chat(name, key=key) for _ in range(60)))
        answered = sum(status == 200 for status, _ in answers)
        used = await door.used_at(name, "deployment", answered + len(before))
    assert {status for status, _ in answers} == {200, 429}
    assert used.input_tokens + used.output_tokens <= 303_000


async def test_a_long_answer_of_one_key_locks_no_other_out(door: Served) -> None:
    """Neither of a rate nor of a budget, of tokens or of money, that is smaller than what that answer took."""
    model = ProviderModel(name="talker", input_price=1, output_price=20)
    async with saying(said(prompt_tokens=20, completion_tokens=30_000)) as (url, _):
        await door.serve(providers=[provider("cloud", url, model)])
        assert (await door.gateway.chat("talker"))[0] == 200
    async with saying(said(prompt_tokens=20, completion_tokens=10)) as (url, _):
        for limits in ({"tokens_per_minute": 20_000}, {"token_budget": 25_000}, {"money_budget": 0.25}):
            key = f"sk-quiet-{next(iter(limits))}"
            await door.serve(providers=[provider("cloud", url, model)], keys=only(key, **limits))
            for _ in range(3):
                status, content, _ = await door.gateway.post(CHAT, key, json={"model": "talker"})
                assert status == 200, (limits, content)


async def test_a_budget_that_would_not_suffice_says_so(door: Served) -> None:
    async with saying(said(prompt_tokens=20, completion_tokens=2_000)) as (url, asked):
        await door.serve(served("ending", url), keys=only("sk-ending", token_budget=21_000))
        statuses = [(await door.gateway.post(CHAT, "sk-ending", json={"model": "ending"}))[0] for _ in range(12)]
        spent = 2_020 * statuses.count(200)
        assert (statuses, len(asked)) == (sorted(statuses), statuses.count(200))
        assert 21_000 / 2 < spent <= 21_000
        _, content, headers = await door.gateway.post(CHAT, "sk-ending", json={"model": "ending"})
        assert content["error"]["code"] == "insufficient_quota"
        wanted = f"has too little left for this request: {spent:,} of 21,000 tokens are spent"
        assert wanted in content["error"]["message"]
        assert headers["x-should-retry"] == "false"
        bounded = {"model": "ending", "max_tokens": 5}
        assert (await door.gateway.post(CHAT, "sk-ending", json=bounded))[0] == 200


@pytest.mark.parametrize(
    ("path", "several"),
    [(CHAT, {"n": 8}), ("/v1/completions", {"prompt": ["a"] * 16}), ("/v1/completions", {"prompt": ["a"] * 400})],
)
@pytest.mark.parametrize("limit", ["token_budget", "tokens_per_minute"])
async def test_several_answers_without_a_bound_find_room_in_a_limit(
    door: Served, path: str, several: dict[str, Any], limit: str
) -> None:
    async with saying(said(prompt_tokens=20, completion_tokens=160)) as (url, _):
        key = f"sk-several-{limit}-{len(several.get('prompt', ''))}"
        await door.serve(served("several", url), keys=only(key, **{limit: 100_000}))
        for _ in range(3):
            status, content, _ = await door.gateway.post(path, key, json={"model": "several", **several})
            assert status == 200, content


async def test_an_answer_that_its_caller_left_says_nothing_of_how_long_others_are(door: Served) -> None:
    left = asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        if not left.is_set():
            await asyncio.sleep(30)
        body = said(prompt_tokens=20, completion_tokens=20_000)
        return web.Response(body=body, content_type="application/json")

    app, port = web.Application(), free_port()
    app.router.add_post("/{path:.*}", answer)
    async with serving(app, port):
        await door.serve(served("left", f"http://127.0.0.1:{port}"), keys=only("sk-left", token_budget=300_000))
        with contextlib.suppress(TimeoutError):
            asked = {"model": "left"}
            await door.gateway.post(CHAT, "sk-left", json=asked, timeout=aiohttp.ClientTimeout(total=0.3))
        await door.used_at("left", "deployment", 1)
        left.set()
        answers = await asyncio.gather(*(door.gateway.chat("left", key="sk-left") for _ in range(60)))
        used = await door.used_at("left", "deployment", 1 + sum(status == 200 for status, _ in answers))
    assert {status for status, _ in answers} == {200, 429}
    assert used.input_tokens + used.output_tokens <= 303_000


def test_what_is_learned_of_a_length_is_that_of_one_answer() -> None:
    lengths = Lengths()
    assert lengths.expected("key", ["tiny"], 1e9, 1) == 16_384
    lengths.learn("key", "tiny", 100, whole=False)
    assert lengths.expected("key", ["tiny"], 1e9, 1) == 16_384, "it may have become long"
    lengths.learn("key", "tiny", 6_000, whole=True)
    lengths.learn("key", "tiny", 100, whole=False)
    assert 5_900 < lengths.expected("key", ["tiny"], 1e9, 1) <= 6_000
    assert 8 * 5_900 < lengths.expected("key", ["tiny"], 1e9, 8) <= 8 * 6_000
    assert lengths.expected("other", ["tiny"], 1e9, 1) == 16_384
    assert lengths.expected("key", ["tiny"], 10_000, 8) == 5_000, "never more than half of a limit"
    lengths.learn("key", "tiny", 9_000, whole=False)
    assert 8_900 < lengths.expected("key", ["tiny"], 1e9, 1) <= 9_000, "no shorter than that"


async def test_a_provider_is_not_sent_much_more_than_its_tokens_a_minute(door: Served) -> None:
    """Answers of which nobody knew how long they would be: the first burst takes what an eighth of the rate allows for
    each, and from then on it is known."""
    async with saying(said(prompt_tokens=20, completion_tokens=3_000)) as (url, asked):
        limits = UpstreamLimits(tokens_per_minute=10_000)
        await door.serve(providers=[provider("rated", url, "rated", limits=limits)])
        for _ in range(2):
            await asyncio.gather(*(door.gateway.chat("rated") for _ in range(60)))
    assert 1 <= len(asked) <= 8
