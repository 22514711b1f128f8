"""Upstreams, callers and projects that would lead the gateway astray: its memory, its money, its learning."""

import asyncio
import contextlib
import json
import time
from typing import Any

import aiohttp
import numpy as np
import orjson
import pytest
from aiohttp import web

from imts_shared.contracts.access import RequestLog
from imts_shared.contracts.limits import Limits
from imts_shared.contracts.providers import ProviderKind, ProviderModel
from imts_shared.contracts.routes import Judge
from imts_shared.contracts.serving import KnownProject, KnownRoute, Snapshot
from inference_service.gateway.afterwards import Afterwards
from inference_service.gateway.bodies import answers_asked, guessed_prompt
from inference_service.gateway.directory import Caller, Directory, Model
from inference_service.gateway.elsewhere import Elsewhere
from inference_service.gateway.errors import Refusal
from inference_service.gateway.judge import Judge as Judging
from inference_service.gateway.learners import Learners
from inference_service.gateway.ledger import Ledger
from inference_service.gateway.orders import Order
from inference_service.gateway.quota import Full, Grant, Kind, Quota, Scopes
from inference_service.gateway.router import Router, _bounded
from inference_service.gateway.targets import Offer as OfferedBy
from inference_service.gateway.targets import Prices, Provided, Target
from inference_service.routing.decision import Offer, Outcome
from tests.conftest import free_port
from tests.gateway.conftest import Served
from tests.gateway.engines import STREAM_HEAD, chunk, engine, event, refusing, said, saying, wire
from tests.gateway.platform_side import ADMIN, KEYS, MEMBER, OTHER, provider, served, serving
from tests.gateway.test_bad_input import _resident

CHAT = "/v1/chat/completions"


async def test_trailers_without_end_take_no_memory(door: Served) -> None:
    before = _resident(door.gateway.process.pid)
    _, writer = await asyncio.open_connection("127.0.0.1", door.gateway.port)
    writer.write(b"POST /v1/files HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    with contextlib.suppress(ConnectionError):
        for number in range(3_000):
            writer.write(b"x-%d: " % number + b"y" * 8_000 + b"\r\n")
            await writer.drain()
    writer.close()
    assert _resident(door.gateway.process.pid) - before < 20_000_000


async def test_an_upstream_that_lies_about_its_tokens_is_not_believed(door: Served) -> None:
    async with saying(said(prompt_tokens=5 * 10**15, completion_tokens=1)) as (url, _):
        await door.serve(providers=[provider("liar", url, "tiny")])
        assert (await door.gateway.chat("tiny"))[0] == 200
        used = (await door.used(1))["tiny", "liar"]
    assert used.input_tokens + used.output_tokens < 1_000
    assert used.estimated_tokens == used.input_tokens + used.output_tokens


async def test_an_admins_requests_are_not_drawn_to_another_projects_provider(door: Served) -> None:
    async with engine("ours") as ours, engine("theirs") as theirs:
        heavy = ProviderModel(name="gpt", weight=1_000)
        both = [provider("all", ours.url, "gpt"), provider("other", theirs.url, heavy, "bait", project="other")]
        await door.serve(providers=both)
        for model in ("gpt", "auto"):
            assert {(await door.gateway.chat(model, key=ADMIN))[0] for _ in range(8)} == {200}
        assert theirs.bodies == []
        assert (await door.gateway.chat("bait", key=ADMIN))[0] == 200, "asked for by name it is found"
        status, content, _ = await door.gateway.post(
            CHAT, ADMIN, json={"model": "gpt"}, headers={"openai-project": "x" * 9_000}
        )
    assert (status, content["error"]["code"]) == (404, "unknown_project")


@pytest.mark.parametrize("body", [b"<html>", b'{"choices": []}', b"[]", b'{"choices": [{"message": null}]}'])
async def test_a_judge_that_talks_nonsense_harms_nobody(door: Served, body: bytes) -> None:
    async with engine("one") as one, engine("other") as other, saying(body) as (url, asked):
        name = f"nonsense-{len(body)}"
        judged = KnownRoute(name=name, project="default", models=["one", "other"], judge=Judge(model="wise"))
        await door.serve(served("one", one.url), served("other", other.url), served("wise", url), routes=[judged])
        for number in range(20):
            words = [{"role": "user", "content": f"Question {number}"}]
            assert (await door.gateway.chat(name, messages=words))[0] == 200
            if asked:
                break
    assert asked, "of two models that nothing is known of, neither is a sure choice for long"


async def test_whoever_hangs_up_on_a_judge_holds_no_money(door: Served) -> None:
    async def slowly(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(5)
        return web.Response()

    port = free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", slowly)
    async with serving(app, port), engine("one") as one:
        models = [ProviderModel(name=name, input_price=1e5, output_price=1e5) for name in ("a", "b")]
        judged = KnownRoute(
            name="judged", project="default", models=["a", "b"], budget=10, judge=Judge(model="wise", timeout_ms=4_000)
        )
        await door.serve(
            served("wise", f"http://127.0.0.1:{port}"),
            providers=[provider("cloud", one.url, *models)],
            routes=[judged],
        )
        asked = {"model": "judged", "max_tokens": 20, "messages": [{"role": "user", "content": "Hello"}]}
        for _ in range(6):
            with contextlib.suppress(TimeoutError):
                await door.gateway.post(CHAT, json=asked, timeout=aiohttp.ClientTimeout(total=0.15))
        await door.serve(
            providers=[provider("cloud", one.url, *models)], routes=[judged.model_copy(update={"judge": None})]
        )
        status, content, _ = await door.gateway.post(CHAT, json=asked)
    assert status == 200, content


def test_news_of_other_things_leave_what_is_learned_and_held() -> None:
    def snapshot(number: int) -> Snapshot:
        route = KnownRoute(name="r", project="default", budget=5.0)
        return Snapshot(version=str(number), keys=KEYS, models=[], routes=[route])

    directory = Directory()
    directory.apply(snapshot(1))
    learners = Learners(directory)
    learner = learners.of("default", "r")
    assert learner.pacer is not None
    learner.pacer.hold(3.0, time.time())
    directory.apply(snapshot(2))
    assert learners.of("default", "r") is learner
    changed = snapshot(3)
    changed.routes[0].cost_weight = 2.0
    features = learners.extractor("default").of_text("Hello")
    learner.learn(Outcome("m", features, time.time(), quality=1.0, cost=0.5))
    directory.apply(changed)
    after = learners.of("default", "r")
    assert after is not learner
    assert after.pacer is learner.pacer
    assert after.stats()["models"][0]["quality"] == 1.0


def test_a_request_is_guessed_with_all_that_it_asks_for() -> None:
    assert answers_asked({"n": 64}) == 64
    assert answers_asked({"prompt": ["a"] * 500, "n": 2}) == 1_000
    assert answers_asked({"prompt": [1, 2, 3], "n": True}) == 1
    picture = b'{"url": "data:image/png;base64,' + b"A" * 1_000_000 + b'"}'
    assert 1_000 < guessed_prompt(picture) < 1_100


async def test_many_answers_that_nobody_bounded_do_not_overrun_a_budget(door: Served) -> None:
    async with saying(said(prompt_tokens=20, completion_tokens=3_000)) as (url, _):
        limits = KnownProject(name="default", limits=Limits(token_budget=50_000))
        await door.serve(served("tiny", url), projects=[limits])
        answers = await asyncio.gather(*(door.gateway.chat("tiny") for _ in range(60)))
        answered = sum(status == 200 for status, _ in answers)
        used = await door.used_at("tiny", "deployment", answered)
    assert {status for status, _ in answers} == {200, 429}
    assert used.input_tokens + used.output_tokens <= 50_500


@pytest.mark.parametrize("body", [b'{"choices": []}', b'{"choices": 3}', b'{"object": "x"}'])
async def test_a_plain_chat_with_an_odd_answer_is_no_fault_of_the_gateway(door: Served, body: bytes) -> None:
    async with saying(body) as (url, _):
        await door.serve(served("tiny", url))
        status, content, _ = await door.gateway.post("/api/chat", json={"message": "x", "model": "tiny"})
        assert (status, content["error"]["code"]) == (502, "engine_failed")
        status, content, _ = await door.gateway.post("/api/chat", None, data=b"[" * 10_000_000)
        assert (status, content["error"]["code"]) == (401, "missing_api_key")


async def test_a_caller_of_the_plain_chat_that_hangs_up_ends_the_work(door: Served) -> None:
    async with engine("one") as one:
        one.go_on.clear()
        await door.serve(served("tiny", one.url))
        with contextlib.suppress(TimeoutError):
            await door.gateway.post(
                "/api/chat", json={"message": "x", "model": "tiny"}, timeout=aiohttp.ClientTimeout(total=0.3)
            )
        await asyncio.wait_for(one.hung_up.wait(), 2)


async def test_what_people_say_is_said_of_the_model_that_answered(door: Served) -> None:
    async with engine("good") as good:
        by = KnownRoute(name="pair", project="default", models=["good", "gone"])
        await door.serve(served("good", good.url), providers=[provider("gone", refusing(), "gone")], routes=[by])
        for number in range(15):
            asked = {"model": "pair", "messages": [{"role": "user", "content": f"What about {number}?"}]}
            _, _, headers = await door.gateway.post(CHAT, json=asked)
            said = {"decisionId": headers["x-imts-decision-id"], "rating": 5}
            assert (await door.gateway.post("/api/routing/feedback", json=said))[0] == 200
        assert (await door.gateway.post("/api/routing/feedback", json=said))[0] == 409, "a rating counts once"
        _, stats = await door.gateway.get("/api/routing/stats?route=pair")
    by_model = {one["model"]: one for one in stats["routes"][0]["models"]}
    assert by_model["good"]["quality"] == 1.0
    assert "gone" not in by_model or by_model["gone"]["quality"] == 0.0


async def test_a_model_that_costs_nothing_is_asked_when_the_money_is_gone(door: Served) -> None:
    async with engine("free") as free, engine("dear") as dear:
        model = ProviderModel(name="dear", input_price=1e6, output_price=1e6)
        by = KnownRoute(name="mixed", project="default", models=["free", "dear"], budget=0.02)
        await door.serve(served("free", free.url), providers=[provider("cloud", dear.url, model)], routes=[by])
        assert {(await door.gateway.chat("mixed", max_tokens=1_000))[0] for _ in range(6)} == {200}
    assert len(free.bodies) == 6


def test_a_label_that_teaches_nothing_changes_nothing() -> None:
    directory = Directory()
    directory.apply(Snapshot(version="1", keys=KEYS, models=[]))
    learners = Learners(directory)
    extractor = learners.extractor("default")
    text = "zzkrk brlm qwxs"
    for label in ("nonsense", "", "other", None):
        learners.hear_label("default", extractor.of_text(text), label)
    assert extractor.classifier.to_state() == []
    learners.hear_label("default", extractor.of_text(text), " Law ")
    assert extractor.of_text(text).domain == "law"


def test_a_projects_labels_correct_its_own_reading_alone() -> None:
    directory = Directory()
    directory.apply(Snapshot(version="1", keys=KEYS, models=[]))
    learners = Learners(directory)
    text = "Translate this sentence into German, please."
    before = learners.extractor("default").of_text(text)
    for _ in range(20):
        learners.hear_label("other", learners.extractor("other").of_text(text), "math")
    assert learners.extractor("other").of_text(text).domain == "math"
    assert learners.extractor("default").of_text(text).domain == before.domain != "math"


async def test_a_model_that_sleeps_is_woken_though_another_answers(door: Served) -> None:
    async with engine("awake") as awake:
        await door.serve(served("asleep", state="asleep"), served("awake", awake.url))
        status, _, headers = await door.gateway.post(
            CHAT, json={"model": "asleep"}, headers={"x-imts-fallbacks": "awake"}
        )
        assert (status, headers["x-imts-model"]) == (200, "awake")
        await asyncio.sleep(0.2)
    assert door.platform.wakes == ["dep-default-asleep"]


async def test_comments_are_no_answer_and_an_end_is_an_end(door: Served) -> None:
    async def comments(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(b": one moment\n\n"))
        await writer.drain()
        writer.close()

    async def stays_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(event("open", 0)) + chunk(b"data: [DONE]\n\n"))
        await reader.read()

    async with wire(comments) as bad, wire(stays_open) as still_open:
        for number in range(4):
            await door.serve(served("tiny", f"{bad.url}#{number}", f"{still_open.url}#{number}"))
            async with (
                aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
                session.post(CHAT, json={"model": "tiny", "stream": True}) as answer,
            ):
                begun = time.monotonic()
                assert (await answer.read()).endswith(b"data: [DONE]\n\n")
                assert time.monotonic() - begun < 0.9


@pytest.mark.parametrize("told", ["²", "Mon, 01 Jan 99999 00:00:00 GMT", "-1", "1e9", ""])
async def test_an_odd_pause_is_no_fault(door: Served, told: str) -> None:
    async def odd(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 429 X\r\nretry-after: " + told.encode() + b"\r\ncontent-length: 0\r\n\r\n")

    async with wire(odd) as bad, engine("good") as good:
        for number in range(3):
            await door.serve(served("tiny", f"{bad.url}#{number}", f"{good.url}#{number}"))
            assert (await door.gateway.chat("tiny"))[0] == 200


async def test_a_key_that_a_provider_repeats_goes_no_further(door: Served) -> None:
    for status in (401, 400, 500):
        said = json.dumps({"error": {"message": "Incorrect API key provided: provider-secret."}}).encode()
        async with saying(said, status) as (url, _):
            await door.serve(providers=[provider(f"cloud-{status}", url, "tiny")])
            _, content = await door.gateway.chat("tiny")
            assert "provider-secret" not in json.dumps(content)
    assert "provider-secret" not in door.gateway.log.read_text()


@pytest.mark.parametrize(
    "path", ["/v1/files/../../internal/gateway/spent", "/v1/files/%2e%2e/models", "/v1/files/a%3Fb", "/v1/files/a%23b"]
)
async def test_what_is_forwarded_stays_in_its_areas(door: Served, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.gateway.port)
    writer.write(
        f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MEMBER}\r\nconnection: close\r\n\r\n".encode()
    )
    said = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert said.startswith(b"HTTP/1.1 404")
    assert door.platform.forwarded == []


async def test_a_gateway_that_is_its_own_provider_does_not_go_round(door: Served) -> None:
    await door.serve(providers=[provider("self", door.gateway.url, "tiny", key=MEMBER)])
    status, content = await door.gateway.chat("tiny")
    assert status in {502, 503, 508}, content
    used = await door.used(1)
    assert sum(one.requests for one in used.values()) < 60


async def test_an_answer_that_its_caller_left_or_that_broke_off_is_not_logged_as_whole(door: Served) -> None:
    async def cut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(event("cut", 0)))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async with wire(cut) as bad:
        full = [KnownProject(name="default", request_log=RequestLog.full)]
        await door.serve(served("tiny", bad.url), projects=full)
        async with (
            aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
            session.post(CHAT, json={"model": "tiny", "stream": True}) as answer,
        ):
            with contextlib.suppress(aiohttp.ClientPayloadError):
                assert b"stream_cut" in await answer.read()
        await door.used_at("tiny", "deployment", 1)
        found = [one for report in door.platform.reports for one in report.requests]
    assert [one.status for one in found] == [502]


def test_a_route_without_money_still_offers_what_is_free() -> None:
    directory = Directory()
    route = KnownRoute(name="r", project="default", budget=1.0)
    directory.apply(Snapshot(version="1", keys=KEYS, models=[], routes=[route]))
    learner = Learners(directory).of("default", "r")
    assert learner.pacer is not None
    learner.pacer.spend(2.0, time.time())
    features = Learners(directory).extractor("default").of_text("Hello")
    offers = [Offer("free", cost=0.0, worst_cost=0.0), Offer("dear", worst_cost=0.5)]
    decision = learner.decide(features, offers, time.time(), np.random.default_rng(1))
    assert decision is not None
    assert decision.model == "free"


def test_a_budget_that_is_changed_forgets_nothing_that_was_spent() -> None:
    directory = Directory()
    route = KnownRoute(name="r", project="default", budget=5.0)
    directory.apply(Snapshot(version="1", keys=KEYS, models=[], routes=[route]))
    learners = Learners(directory)
    pacer = learners.of("default", "r").pacer
    assert pacer is not None
    pacer.spend(4.0, time.time())
    directory.apply(Snapshot(version="2", keys=KEYS, models=[], routes=[route.model_copy(update={"budget": 4.5})]))
    changed = learners.of("default", "r").pacer
    assert changed is not None
    assert changed.left(time.time()) == pytest.approx(0.5)


async def test_a_budget_of_which_nobody_can_say_what_was_spent_leaves_what_is_free_at_once() -> None:
    """Each question about it may wait for seconds: it is not asked once more for each of the dear models."""
    asked: list[float] = []

    class Unknown(Quota):
        def __init__(self) -> None: ...

        def try_admit(self, scopes: Scopes | None, tokens: float, money: float) -> Grant | None:
            return None

        async def ask(self, scopes: Scopes | None, tokens: float, money: float) -> Grant | Full:
            asked.append(money)
            return Full("route:default/r", Kind.money_budget, 5.0, 0.0, money, 1.0, known=False)

        def route(self, project: str, name: str, limits: Limits) -> Scopes | None:
            return Scopes((), (), ())

    directory = Directory()
    route = KnownRoute(name="r", project="default", budget=5.0)
    directory.apply(Snapshot(version="1", keys=KEYS, models=[], routes=[route]))
    learners = Learners(directory)
    judge, ledger = object.__new__(Judging), object.__new__(Ledger)
    router = Router(directory, learners, Unknown(), ledger, object.__new__(Elsewhere), judge, Afterwards())
    features = learners.extractor("default").of_text("Hello")
    dear = [Offer(f"dear {number}", worst_cost=number / 10) for number in range(1, 9)]
    learner, budget = learners.of("default", "r"), learners.budget("default", "r")
    choice, _ = await router._afforded(
        "default", "r", budget, learner, features, [*dear, Offer("own", cost=0.0, worst_cost=0.0)]
    )
    assert (choice.model, len(asked)) == ("own", 1)
    with pytest.raises(Refusal) as refused:
        await router._afforded("default", "r", budget, learner, features, dear)
    assert (refused.value.status, refused.value.code) == (503, "budget_unknown")


def test_what_a_route_holds_counts_all_that_is_asked_for() -> None:
    """Tools, and each of several answers; but no answer where none is made."""
    prices = Provided("p", "p", ProviderKind.openai, (), "dear", internal=True, prices=Prices(1e6, 1e6))
    model = Model("dear", "default", offers=(OfferedBy(Target("http://127.0.0.1:1", "p", prices), 1.0),))
    features = Learners(Directory()).extractor("default").of_text("Hello")

    def worst(path: str = CHAT, **more: Any) -> float:
        content = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], **more}
        order = Order(path, {}, orjson.dumps(content), content, stream=False, model="auto", identity="x")
        [offer] = _bounded([model], features, order)
        assert offer.worst_cost is not None
        assert offer.open_ended == (path == CHAT and "max_tokens" not in more)
        return offer.worst_cost

    plain = worst(max_tokens=100)
    assert worst(max_tokens=100, n=5) >= plain + 400
    assert worst(max_tokens=100, tools=[{"type": "function", "function": {"name": "x" * 3_000}}]) >= plain + 900
    assert worst() > plain
    assert worst("/v1/embeddings") < 100


def test_keys_of_one_project_are_bound_to_it_whatever_they_name() -> None:
    directory = Directory()
    directory.apply(Snapshot(version="1", keys=KEYS, models=[]))
    caller = directory.caller(f"Bearer {OTHER}".encode(), b"default")
    assert isinstance(caller, Caller)
    assert caller.bound == "other"
