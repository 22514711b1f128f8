"""What a body takes when it is parsed, told before it is."""

import gc
import json
import tracemalloc
from typing import Any

import orjson
import pytest

from inference_service.gateway.errors import Refusal
from inference_service.gateway.weighing import MOST_PARTS_BYTES, parsed_bytes

SOME = 100_000
LEGITIMATE = [
    pytest.param("hello, world, " * 3_500_000, id="a text of 49 MB"),
    pytest.param("1," * 20_000_000, id="a text that looks like numbers"),
    pytest.param(json.dumps([{"a": 'x "\\'}] * 500_000), id="a text that holds JSON"),
    pytest.param(["\\", '"', '\\"', "\\" * 1_200_001, "," * 3_000_000], id="a text behind backslashes"),
    pytest.param("data:image/png;base64," + "QUJDRA+/" * 6_000_000, id="a picture"),
    pytest.param(list(range(100_000, 1_100_000)), id="a million tokens"),
    pytest.param([{"role": "user", "content": "x" * 500}] * 90_000, id="a long conversation"),
]


def _listed(one: str, many: int) -> bytes:
    return b'{"x":[%b]}' % ",".join([one] * many).encode()


def _named(value: str, many: int) -> bytes:
    return b"{%b}" % ",".join(f'"{number:x}":{value}' for number in range(many)).encode()


PARSED = [
    pytest.param(_listed('"ab"', SOME), id="texts"),
    pytest.param(_listed('"ab\\\\"', SOME), id="texts that end with a backslash"),
    pytest.param(_listed("12345", SOME), id="numbers"),
    pytest.param(_listed("0.5", SOME), id="fractions"),
    pytest.param(_listed("[]", SOME), id="lists"),
    pytest.param(_listed("[[1]]", SOME), id="lists within"),
    pytest.param(_listed('{"a":1}', SOME), id="objects"),
    pytest.param(_named("1", SOME), id="names"),
    pytest.param(_named('"ab"', SOME), id="names of texts"),
    pytest.param(b'["%b"]' % (b"x" * 10**6), id="a text"),
    pytest.param(b'["%b"]' % ("ä" * 10**6).encode(), id="a Latin text"),
    pytest.param(b'["%b"]' % ("我" * 10**6).encode(), id="a Chinese text"),
    pytest.param(b'["%b\xf0\x9f\x98\x80"]' % (b"x" * 10**6), id="a text and a face"),
    pytest.param(b'["%b\\ud83D\\uDE00"]' % (b"x" * 10**6), id="a text and a face in other words"),
    pytest.param(b'["%b\\u2019"]' % (b"x" * 10**6), id="a text and an apostrophe"),
]


@pytest.mark.parametrize("body", PARSED)
async def test_a_body_takes_no_more_than_is_told_and_not_much_less(body: bytes) -> None:
    told = await parsed_bytes(body)
    gc.collect()
    tracemalloc.start()
    try:
        parsed = orjson.loads(body)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert parsed
    assert taken <= told + 1_000 <= 3 * taken


@pytest.mark.parametrize("content", LEGITIMATE)
async def test_what_is_large_for_a_reason_is_not_too_much(content: Any) -> None:
    body = orjson.dumps({"x": content})
    assert await parsed_bytes(body) <= MOST_PARTS_BYTES + len(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_listed('"ab"', 1_000_000), id="texts"),
        pytest.param(_listed('"\\\\"', 1_000_000), id="texts of a backslash"),
        pytest.param(_listed('"\\""', 1_000_000), id="texts of a quote"),
        pytest.param(_listed("1", 2_000_000), id="numbers"),
        pytest.param(_listed("[]", 600_000), id="lists"),
        pytest.param(_listed('{"a":1}', 300_000), id="objects"),
        pytest.param(_named("1", 400_000), id="names"),
        pytest.param(b'["' + b"\\" * 2**21 + b'",' + b"1," * 2_000_000 + b"1]", id="behind backslashes"),
    ],
)
async def test_what_takes_many_times_its_bytes_is_told_so(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        await parsed_bytes(body)
    assert (refused.value.status, refused.value.code) == (413, "body_too_complex")
    assert "in several requests" in refused.value.message
