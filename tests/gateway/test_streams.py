"""The events of a stream, by themselves: however they are cut, as quickly, and counted by what they hold."""

import time

import orjson
import pytest

from inference_service.gateway.answers import LARGEST_EVENT, Garbled, Stream
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
