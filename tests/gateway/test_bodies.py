"""A body whose model or question for usage is changed: all else stays byte for byte, whatever it is."""

import time

import orjson
import pytest

from inference_service.gateway.bodies import with_model, with_usage
from inference_service.gateway.errors import Refusal
from tests.gateway.conftest import Served
from tests.gateway.engines import engine
from tests.gateway.platform_side import provider

REST = rb'"big": 123456789012345678901234567890, "price": 1.10, "text": "\u00e4 \u0041 \"model\": \"x\" [{", "n": null'
DEEP = b"[" * 400 + b"]" * 400


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b'{"model": "a", %b}', b'{"model":"new", %b}'),
        (b'{%b, "model" : "a"}', b'{%b, "model":"new"}'),
        (rb'{"m\u006fd\u0065l": "\u0061", %b}', b'{"model":"new", %b}'),
        (rb'{"\u006D\u006Fdel": "a", "x": {"model": "a"}, %b}', b'{"model":"new", "x": {"model": "a"}, %b}'),
        (b'{"x": [{"model": "a"}, "}]"], "model": "a", %b}', b'{"x": [{"model": "a"}, "}]"], "model":"new", %b}'),
        (rb'{"x\"model": "b", "y\\": 1, "model": "a", %b}', rb'{"x\"model": "b", "y\\": 1, "model":"new", %b}'),
        (b'{"model": "a", "messages": ["model", "a"], "z": ' + DEEP + b", %b}",
         b'{"model":"new", "messages": ["model", "a"], "z": ' + DEEP + b", %b}"),
    ],
)  # fmt: skip
def test_the_model_alone_is_changed(body: bytes, changed: bytes) -> None:
    body = body % REST
    assert with_model(body, orjson.loads(body), "new") == changed % REST


def test_a_model_that_is_said_twice_is_said_once() -> None:
    body = b'{"model": "a", "x": 1, "model": "b"}'
    assert orjson.loads(with_model(body, orjson.loads(body), "new")) == {"model": "new", "x": 1}
    assert with_model(body, orjson.loads(body), "new").count(b"model") == 1


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (b"null", b'{"include_usage":true}'),
        (b"{}", b'{"include_usage":true}'),
        (b'{"include_usage": false, "x": "}"}', b'{"include_usage":true,"x":"}"}'),
    ],
)
def test_the_question_for_usage_alone_is_changed(options: bytes, asked: bytes) -> None:
    body = b'{"a": {"stream_options": null}, "stream_options": %b, %b}' % (options, REST)
    changed = b'{"a": {"stream_options": null}, "stream_options":%b, %b}' % (asked, REST)
    assert with_usage(body, orjson.loads(body)) == changed


def test_the_question_for_usage_is_added_before_all_else() -> None:
    body = rb' {"t": "\u0041", %b}' % REST
    assert with_usage(body, orjson.loads(body)) == b'{"stream_options":{"include_usage":true},' + body[2:]


def test_what_must_be_written_anew_and_is_too_deep_is_refused() -> None:
    for body, change in (
        (b'{"model": "a", "model": "b", "z": ' + DEEP + b"}", lambda given, content: with_model(given, content, "c")),
        (b'{"stream_options": {"x": {}}, "z": ' + DEEP + b"}", with_usage),
    ):
        with pytest.raises(Refusal) as refused:
            change(body, orjson.loads(body))
        assert (refused.value.status, refused.value.code) == (400, "invalid_json")


def test_a_large_body_is_changed_in_little_time() -> None:
    body = b'{"model":"a","x":[' + b'"{",' * 1_000_000 + b'""],"y":{"model":"z"}}'
    content = orjson.loads(body)
    begun = time.process_time()
    assert with_model(body, content, "b") == body.replace(b'"model":"a"', b'"model":"b"')
    assert time.process_time() - begun < 2


async def test_a_body_of_many_levels_reaches_a_provider_as_it_is(door: Served) -> None:
    async with engine("cloud") as cloud:
        await door.serve(providers=[provider("cloud", cloud.url, "tiny")])
        body = b'{"model": "tiny", "stream": true, "z": ' + DEEP + b"}"
        status, _, _ = await door.gateway.post("/v1/chat/completions", data=body.replace(b"true", b"false"))
        assert status == 200
        body = b'{"model": "tiny", "stream_options": {"x": {}}, "stream": true, "z": ' + DEEP + b"}"
        status, content, _ = await door.gateway.post("/v1/chat/completions", data=body)
    assert (status, content["error"]["code"]) == (400, "invalid_json")
