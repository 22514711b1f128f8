"""The events of a stream, by themselves: however they are cut, as quickly, and counted by what they hold."""

import json
import time

import pytest

from inference_service.gateway.answers import LARGEST_EVENT, Garbled, Stream
from inference_service.gateway.anthropic.answer import Envelope
from inference_service.gateway.anthropic.stream import Stream as AnthropicStream
from inference_service.gateway.messages import Translated
from tests.gateway.engines import event

DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\n\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_events_come_whole_however_they_are_cut(end: bytes, size: int) -> None:
    said = b"".join(event("m", number).removesuffix(b"\n\n") + end for number in range(5)) + DONE
    stream = Stream(hide_usage=True)
    told = [stream.feed(said[at : at + size]) for at in range(0, len(said), size)]
    assert b"".join(told) == said
    assert all(part.endswith(b"\n") for part in told if part)
    assert (stream.finished, stream.pieces) == (True, 5)


def test_an_event_in_tiny_pieces_takes_no_longer_than_its_bytes() -> None:
    stream = Stream(hide_usage=True)
    stream.feed(event("m", 0))
    begun = time.process_time()
    stream.feed(b"data: ")
    for _ in range(1_000_000):
        stream.feed(b"x")
    assert time.process_time() - begun < 5
    with pytest.raises(Garbled):
        stream.feed(b"x" * LARGEST_EVENT)


def test_comments_in_tiny_pieces_take_no_longer_than_their_bytes() -> None:
    stream = Stream(hide_usage=True)
    begun = time.process_time()
    for _ in range(200_000):
        assert stream.feed(b":\n\n") == b""
    assert time.process_time() - begun < 5
    assert stream.feed(event("m", 0)) == b":\n\n" * 200_000 + event("m", 0)


def _chunk(**delta: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def _output(*events: bytes) -> int:
    stream = Stream(hide_usage=True)
    for one in events:
        stream.feed(one)
    return stream.counted().output


WORDS = "Good day to you! " * 20


def test_what_passed_is_counted_by_its_text_where_events_hold_many_tokens() -> None:
    first = _chunk(role="assistant", content="")
    tokens = len(WORDS) // 4
    assert _output(first, _chunk(content=WORDS)) == tokens
    assert _output(first, _chunk(content=WORDS) + _chunk(content=WORDS.upper())) == 2 * tokens
    assert _output(first, _chunk(content=WORDS) + _chunk(content=WORDS)) == 2 * tokens, "said twice"
    assert _output(first, (_chunk(content=WORDS) * 3).replace(b"\n\n", b"\r\n\r\n")) == 3 * tokens
    assert _output(first, _chunk(reasoning=WORDS, reasoning_content=WORDS)) == tokens, "the same under two names"
    call = {"index": 0, "function": {"arguments": WORDS}}
    assert _output(first, _chunk(tool_calls=[call])) == tokens
    escaped = _chunk(content="好" * 100)
    assert _output(first, escaped) == _output(first, escaped.replace(b"\\u597d", "好".encode())) == 75
    assert _output(*[_chunk(content="a") for _ in range(9)]) == 9
    text = b'data: {"choices": [{"text": "%b"}], "usage": null}\n\n' % WORDS.encode()
    assert _output(text, text) == 2 * tokens
    assert _output(first, _chunk(content="x", logprobs={"content": [{"token": "x", "bytes": list(range(200))}]})) == 2


def test_a_response_is_counted_by_its_deltas_alone() -> None:
    told = [
        {"type": "response.created", "response": {}},
        {"type": "response.output_text.delta", "delta": WORDS},
        {"type": "response.output_text.done", "text": WORDS},
        {"type": "response.output_item.done", "item": {"content": [{"type": "output_text", "text": WORDS}]}},
    ]
    assert _output(*[b"data: " + json.dumps(one).encode() + b"\n\n" for one in told]) == len(WORDS) // 4


def test_what_anthropic_said_until_it_broke_off_is_counted_by_its_text() -> None:
    stream = Translated(AnthropicStream(Envelope("c", 1, "m")))
    usage = {"input_tokens": 9, "output_tokens": 1}
    for one in (
        {"type": "message_start", "message": {"usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": WORDS}},
    ):
        stream.feed(b"data: " + json.dumps(one).encode() + b"\n\n")
    counted = stream.counted()
    assert (counted.input, counted.output, counted.told) == (9, len(WORDS) // 2, False)
