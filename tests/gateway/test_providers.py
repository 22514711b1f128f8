"""Names that providers answer for: over real sockets, with the keys that the snapshot brings sealed."""

import orjson
import pytest
from aiohttp import web

from imts_shared.contracts.providers import ProviderKind, ProviderModel
from imts_shared.sealing import ServiceSeal
from tests.conftest import free_port
from tests.gateway.conftest import Served
from tests.gateway.engines import engine, refusing, whole
from tests.gateway.platform_side import OTHER, provider, served, serving

CHAT = "/v1/chat/completions"


async def test_a_providers_model_is_asked_with_the_providers_key_and_name(door: Served) -> None:
    async with engine("cloud") as cloud:
        model = ProviderModel(name="gpt-ours", upstream_name="gpt-4o-mini")
        await door.serve(providers=[provider("openai", f"{cloud.url}/v1", model)])
        status, content, headers = await door.gateway.post(
            CHAT, data=b'{"model" : "gpt-ours", "messages":[], "x": 1.0, "big": 12345678901234567890123}',
            headers={"content-type": "application/json"},
        )  # fmt: skip
        models = await door.gateway.get("/v1/models")
    assert (status, content["choices"][0]["message"]["content"]) == (200, "I am cloud.")
    assert headers["x-imts-model"] == "gpt-ours"
    assert cloud.paths == [CHAT]
    assert cloud.headers[0]["authorization"] == "Bearer provider-secret"
    assert cloud.bodies == [b'{"model":"gpt-4o-mini", "messages":[], "x": 1.0, "big": 12345678901234567890123}']
    assert [(one["id"], one["owned_by"]) for one in models[1]["data"]] == [("gpt-ours", "openai")]


@pytest.mark.parametrize(
    ("kind", "given", "path"),
    [
        (ProviderKind.openai, "", "/v1/chat/completions"),
        (ProviderKind.openai, "/compatible-mode/v1/", "/compatible-mode/v1/chat/completions"),
        (ProviderKind.ollama, "", "/v1/chat/completions"),
    ],
)
async def test_its_address_may_or_may_not_say_v1(door: Served, kind: ProviderKind, given: str, path: str) -> None:
    async with engine("cloud") as cloud:
        await door.serve(providers=[provider("cloud", cloud.url + given, "tiny", kind=kind, key=None)])
        assert (await door.gateway.chat("tiny"))[0] == 200
    assert cloud.paths == [path]
    assert "authorization" not in cloud.headers[0]


async def test_a_provider_belongs_to_its_project_or_to_all(door: Served) -> None:
    async with engine("own") as own, engine("all") as everybodys:
        await door.serve(
            providers=[
                provider("own", own.url, "private", project="default"),
                provider("all", everybodys.url, "public"),
            ]
        )
        assert (await door.gateway.chat("private"))[0] == 200
        assert (await door.gateway.chat("private", key=OTHER))[0] == 404
        assert (await door.gateway.chat("public", key=OTHER))[0] == 200


async def test_an_internal_address_is_asked_only_where_an_admin_allowed_it(door: Served) -> None:
    async with engine("inside") as inside:
        by_name = inside.url.replace("127.0.0.1", "localhost")
        spelled = inside.url.replace("127.0.0.1", "2130706433")
        for url in (inside.url, by_name, spelled):
            await door.serve(providers=[provider("cloud", url, "tiny", allow_internal=False)])
            status, content = await door.gateway.chat("tiny")
            assert status in {404, 502, 503}, content
    assert inside.bodies == []


async def test_a_key_that_cannot_be_opened_is_not_guessed(door: Served) -> None:
    async with engine("cloud") as cloud:
        sealed = ServiceSeal("another-service-key-0123456789").seal("secret", "id-cloud")
        await door.serve(providers=[provider("cloud", cloud.url, "tiny", sealed_key=sealed)])
        assert (await door.gateway.chat("tiny"))[0] == 404
    assert "secret" not in door.gateway.log.read_text()


async def test_names_that_several_answer_for_share_by_weight(door: Served) -> None:
    async with engine("light") as light, engine("heavy") as heavy, engine("last") as last, engine("ours") as ours:
        models = {name: ProviderModel(name="tiny", weight=weight) for name, weight in (("l", 1), ("h", 4), ("z", 0))}
        await door.serve(
            served("tiny", ours.url),
            providers=[
                provider("light", light.url, models["l"]),
                provider("heavy", heavy.url, models["h"]),
                provider("last", last.url, models["z"]),
            ],
        )
        for _ in range(120):
            assert (await door.gateway.chat("tiny"))[0] == 200
    counts = [len(one.bodies) for one in (light, heavy, ours, last)]
    assert sum(counts) == 120
    assert counts[3] == 0
    assert 8 <= counts[0] <= 36
    assert 8 <= counts[2] <= 36
    assert 60 <= counts[1] <= 100


async def test_the_one_without_weight_answers_where_no_other_can(door: Served) -> None:
    async with engine("last") as last:
        await door.serve(
            providers=[
                provider("gone", refusing(), ProviderModel(name="tiny", weight=5)),
                provider("last", last.url, ProviderModel(name="tiny", weight=0)),
            ]
        )
        for _ in range(5):
            assert (await door.gateway.chat("tiny"))[0] == 200
    assert len(last.bodies) == 5


async def test_an_endpoint_that_the_provider_has_not_is_said_so(door: Served) -> None:
    async with engine("cloud") as cloud:
        await door.serve(providers=[provider("cloud", cloud.url, "tiny")])
        status, content, _ = await door.gateway.post("/v1/tokenize", json={"model": "tiny", "prompt": "x"})
    assert (status, content["error"]["code"], content["error"]["param"]) == (400, "unsupported_endpoint", "model")
    assert orjson.dumps(content).find(b"cloud.url") < 0


async def test_what_one_provider_cannot_carry_is_asked_of_the_other(door: Served) -> None:
    async with engine("cloud") as cloud:
        both = [
            provider("claude", refusing(), ProviderModel(name="tiny", weight=1_000), kind=ProviderKind.anthropic),
            provider("cloud", cloud.url, ProviderModel(name="tiny", weight=1)),
        ]
        await door.serve(providers=both)
        for more in ({"n": 2}, {"unknown": 1}):
            status, content = await door.gateway.chat("tiny", **more)
            assert (status, content["model"]) == (200, "cloud"), content
        await door.serve(providers=both[:1])
        status, content = await door.gateway.chat("tiny", n=2)
        _, listed = await door.gateway.get("/models")
    assert (status, content["error"]["code"], content["error"]["param"]) == (400, "unsupported_parameter", "n")
    assert [one["free"] for one in listed["models"][0]["upstreams"]] == [True], "it is well"


@pytest.mark.parametrize("says", [404, 405, 501])
async def test_a_path_that_a_provider_has_not_closes_it_for_nobody(door: Served, says: int) -> None:
    async def only_chat(request: web.Request) -> web.Response:
        if request.path != CHAT:
            return web.json_response({"detail": "Not Found"}, status=says)
        return web.json_response(whole("cloud"))

    port = free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", only_chat)
    async with serving(app, port), engine("other") as other:
        cloud = provider("cloud", f"http://127.0.0.1:{port}", ProviderModel(name="tiny", weight=1_000))
        await door.serve(providers=[cloud])
        asked = {"model": "tiny", "input": "Hello"}
        status, content, _ = await door.gateway.post("/v1/responses", json=asked)
        _, listed = await door.gateway.get("/models")
        assert (status, content["error"]["code"]) == (404, "unsupported_endpoint")
        assert "/v1/responses" in content["error"]["message"]
        assert [one["free"] for one in listed["models"][0]["upstreams"]] == [True], "it is well"
        await door.serve(providers=[cloud, provider("other", other.url, ProviderModel(name="tiny", weight=1))])
        assert (await door.gateway.post("/v1/responses", json=asked))[0] == 200
